package com.facebook.soloader.nativeloader;

/** How native libraries are loaded. */
public interface NativeLoaderDelegate {
    /** Load one by its short name, as System.loadLibrary does. */
    boolean loadLibrary(String name);
}
