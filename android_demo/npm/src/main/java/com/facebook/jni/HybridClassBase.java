package com.facebook.jni;

import com.facebook.jni.annotations.DoNotStrip;

/** A class that is its own native object's owner; libfbjni.so looks it up. */
@DoNotStrip
public abstract class HybridClassBase extends HybridData {}
