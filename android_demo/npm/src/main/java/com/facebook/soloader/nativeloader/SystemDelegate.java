package com.facebook.soloader.nativeloader;

/** Loads by System.loadLibrary. */
public final class SystemDelegate implements NativeLoaderDelegate {
    @Override
    public boolean loadLibrary(String name) {
        System.loadLibrary(name);
        return true;
    }
}
