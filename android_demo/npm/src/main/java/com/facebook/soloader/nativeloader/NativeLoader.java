package com.facebook.soloader.nativeloader;

/** Loads native libraries by the delegate it was given. */
public final class NativeLoader {
    private static volatile NativeLoaderDelegate delegate;

    private NativeLoader() {}

    public static boolean isInitialized() {
        return delegate != null;
    }

    public static void init(NativeLoaderDelegate given) {
        delegate = given;
    }

    public static boolean loadLibrary(String name) {
        return delegate.loadLibrary(name);
    }
}
