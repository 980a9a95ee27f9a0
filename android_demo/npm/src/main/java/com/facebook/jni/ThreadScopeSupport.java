package com.facebook.jni;

import com.facebook.jni.annotations.DoNotStrip;

/** Runs a native function in a frame that has this class's loader. */
@DoNotStrip
public class ThreadScopeSupport {
    private ThreadScopeSupport() {}

    @DoNotStrip
    private static void runStdFunction(long function) {
        runStdFunctionImpl(function);
    }

    private static native void runStdFunctionImpl(long function);
}
