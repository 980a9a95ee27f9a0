package com.facebook.jni;

import com.facebook.jni.annotations.DoNotStrip;

/** A native function as a Runnable. */
@DoNotStrip
public class NativeRunnable implements Runnable {
    private final HybridData mHybridData;

    private NativeRunnable(HybridData hybridData) {
        mHybridData = hybridData;
    }

    @Override
    public native void run();
}
