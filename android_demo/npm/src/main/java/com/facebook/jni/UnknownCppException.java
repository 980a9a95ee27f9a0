package com.facebook.jni;

import com.facebook.jni.annotations.DoNotStrip;

/** Something thrown in C++ that is no exception. */
@DoNotStrip
public class UnknownCppException extends CppException {
    private static final long serialVersionUID = 1;

    @DoNotStrip
    public UnknownCppException() {
        super("Unknown");
    }
}
