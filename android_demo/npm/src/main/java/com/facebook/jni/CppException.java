package com.facebook.jni;

import com.facebook.jni.annotations.DoNotStrip;

/** A C++ exception that reached Java. */
@DoNotStrip
public class CppException extends RuntimeException {
    private static final long serialVersionUID = 1;

    @DoNotStrip
    public CppException(String message) {
        super(message);
    }
}
