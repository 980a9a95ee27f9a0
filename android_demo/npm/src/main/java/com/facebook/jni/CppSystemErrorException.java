package com.facebook.jni;

import com.facebook.jni.annotations.DoNotStrip;

/** A std::system_error, with its number. */
@DoNotStrip
public class CppSystemErrorException extends CppException {
    private static final long serialVersionUID = 1;
    public final int errorCode;

    @DoNotStrip
    public CppSystemErrorException(String message, int errorCode) {
        super(message);
        this.errorCode = errorCode;
    }
}
