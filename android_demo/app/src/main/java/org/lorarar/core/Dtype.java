package org.lorarar.core;

import java.nio.ByteBuffer;
import java.nio.ShortBuffer;

/**
 * A tensor's dtype in a safetensors file, by the code in its header.
 *
 * <p>numpy: the name that messages give it, or null for those that numpy cannot show.
 */
public enum Dtype {
    F64(64, "float64"),
    F32(32, "float32"),
    F16(16, "float16"),
    BF16(16, "bfloat16"),
    F8_E4M3(8, "float8_e4m3fn"),
    F8_E5M2(8, "float8_e5m2"),
    F8_E4M3FNUZ(8, "float8_e4m3fnuz"),
    F8_E5M2FNUZ(8, "float8_e5m2fnuz"),
    F8_E8M0(8, "float8_e8m0fnu"),
    I64(64, "int64"),
    I32(32, "int32"),
    I16(16, "int16"),
    I8(8, "int8"),
    U64(64, "uint64"),
    U32(32, "uint32"),
    U16(16, "uint16"),
    U8(8, "uint8"),
    BOOL(8, "bool"),
    C64(64, "complex64"),
    F4(4, null),
    F6_E2M3(6, null),
    F6_E3M2(6, null);

    private static final float HALF_TO_SINGLE = 0x1p112f; // the difference of exponents' biases
    private static final float[] E4M3 = shortFloats(3, 7, false);
    private static final float[] E5M2 = shortFloats(2, 15, false);
    private static final float[] E4M3FNUZ = shortFloats(3, 8, true);
    private static final float[] E5M2FNUZ = shortFloats(2, 16, true);

    public final int bits;
    public final String numpy;

    Dtype(int bits, String numpy) {
        this.bits = bits;
        this.numpy = numpy;
    }

    /** Whether a LoRA's weights may have it. */
    public boolean isFloat() {
        return ordinal() <= F8_E5M2FNUZ.ordinal();
    }

    /** Whether it is a float of 8 bits, of which float16 holds every value. */
    boolean isShort() {
        return isFloat() && bits == 8;
    }

    /** The dtype of these numbers as numpy names it, or null if there is none of this code. */
    static Dtype of(String code) {
        for (Dtype dtype : values()) {
            if (dtype.name().equals(code)) {
                return dtype;
            }
        }
        return null;
    }

    /** The number at an index, little-endian; of a whole number the nearest; of C64 no number. */
    double at(ByteBuffer data, int index) {
        switch (this) {
            case F64:
                return data.getDouble(8 * index);
            case I64:
                return data.getLong(8 * index);
            case U64:
                return unsigned(data.getLong(8 * index));
            case I32:
                return data.getInt(4 * index);
            case U32:
                return data.getInt(4 * index) & 0xffffffffL;
            case I16:
                return data.getShort(2 * index);
            case U16:
                return data.getShort(2 * index) & 0xffff;
            case U8:
            case BOOL:
                return data.get(index) & 0xff;
            case F8_E8M0:
                int exponent = data.get(index) & 0xff;
                return exponent == 0xff ? Double.NaN : Math.scalb(1.0, exponent - 127);
            case C64:
            case F4:
            case F6_E2M3:
            case F6_E3M2:
                return Double.NaN;
            default:
                float[] one = new float[1];
                widen(data, index, one);
                return one[0];
        }
    }

    /** Fill `into` with float32 of the numbers from an index on; of floats and of I8. */
    void widen(ByteBuffer data, int first, float[] into) {
        ByteBuffer from = data.duplicate().order(data.order());
        from.position(first * (bits / 8));
        if (this == F32) {
            from.asFloatBuffer().get(into);
        } else if (this == F16) { // the usual ones have loops of their own, which are faster
            ShortBuffer halves = from.asShortBuffer();
            for (int i = 0; i < into.length; i++) {
                into[i] = half(halves.get(i));
            }
        } else {
            for (int i = 0, at = from.position(); i < into.length; i++, at += bits / 8) {
                into[i] = one(data, at);
            }
        }
    }

    private float one(ByteBuffer data, int at) {
        switch (this) {
            case F64:
                return (float) data.getDouble(at);
            case BF16:
                return Float.intBitsToFloat(data.getShort(at) << 16);
            case F8_E4M3:
                return E4M3[data.get(at) & 0xff];
            case F8_E5M2:
                return E5M2[data.get(at) & 0xff];
            case F8_E4M3FNUZ:
                return E4M3FNUZ[data.get(at) & 0xff];
            case F8_E5M2FNUZ:
                return E5M2FNUZ[data.get(at) & 0xff];
            case I8:
                return data.get(at);
            default:
                throw new IllegalStateException(name() + " is no dtype of weights");
        }
    }

    private static float half(short bits) {
        int sign = (bits & 0x8000) << 16;
        int rest = bits & 0x7fff;
        if (rest >= 0x7c00) {
            return Float.intBitsToFloat(sign | 0x7f800000 | (rest & 0x3ff) << 13);
        }
        // Exponent and mantissa moved, the bias corrected by a product: right for subnormals, too.
        float magnitude = Float.intBitsToFloat(rest << 13) * HALF_TO_SINGLE;
        return Float.intBitsToFloat(sign | Float.floatToRawIntBits(magnitude));
    }

    private static double unsigned(long bits) {
        return bits >= 0 ? bits : 2.0 * (bits >>> 1 | bits & 1);
    }

    /** All floats of 8 bits with so many bits of mantissa; fnuz: without infinities and -0. */
    private static float[] shortFloats(int mantissa, int bias, boolean fnuz) {
        float[] all = new float[256];
        int ones = 1 << mantissa;
        for (int i = 0; i < 256; i++) {
            int exponent = (i & 0x7f) >> mantissa;
            int fraction = i & ones - 1;
            double size = exponent == 0
                ? Math.scalb((double) fraction, 1 - bias - mantissa)
                : Math.scalb((double) (ones + fraction), exponent - bias - mantissa);
            if (!fnuz && mantissa == 2 && exponent == 31) {
                size = fraction == 0 ? Double.POSITIVE_INFINITY : Double.NaN;
            }
            boolean isNaN = fnuz ? i == 0x80 : mantissa == 3 && (i & 0x7f) == 0x7f;
            all[i] = isNaN ? Float.NaN : (float) (i < 0x80 ? size : -size);
        }
        return all;
    }
}
