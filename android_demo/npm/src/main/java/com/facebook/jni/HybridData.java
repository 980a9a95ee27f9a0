package com.facebook.jni;

import com.facebook.jni.annotations.DoNotStrip;

/** A native object that a Java object owns; libfbjni.so sets and reads its pointer by name. */
@DoNotStrip
public class HybridData {
    static { // as a mere dependency of libexecutorch.so, it does not register its functions
        System.loadLibrary("fbjni");
    }

    @DoNotStrip private final Destructor mDestructor = new Destructor();

    /** Free the native object now, not when this one is collected. */
    public synchronized void resetNative() {
        mDestructor.free();
    }

    /** Whether there is a native object. */
    public synchronized boolean isValid() {
        return mDestructor.mNativePointer != 0;
    }

    @Override
    @SuppressWarnings("deprecation") // what replaces it needs a later Android
    protected void finalize() throws Throwable {
        resetNative();
        super.finalize();
    }

    /** The pointer, and how it is freed. */
    @DoNotStrip
    public static final class Destructor {
        @DoNotStrip private volatile long mNativePointer;

        private void free() {
            long pointer = mNativePointer;
            mNativePointer = 0;
            if (pointer != 0) {
                deleteNative(pointer);
            }
        }

        private static native void deleteNative(long pointer);
    }
}
