package org.lorarar.core;

import java.math.BigDecimal;
import java.math.BigInteger;
import java.nio.ByteBuffer;
import java.nio.charset.CharacterCodingException;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.Collections;
import java.util.Comparator;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/**
 * A safetensors file's header, checked as its reference implementation does: tensors lie one
 * behind the other, without holes, and fill the file (github.com/huggingface/safetensors).
 */
final class SafetensorsHeader {
    /** A tensor: its bytes begin and end at offsets behind the header. */
    static final class Place {
        final Dtype dtype;
        final BigInteger[] shape;
        final long begin;
        final long end;

        private Place(Dtype dtype, BigInteger[] shape, long begin, long end) {
            this.dtype = dtype;
            this.shape = shape;
            this.begin = begin;
            this.end = end;
        }
    }

    private static final BigInteger LARGEST = BigInteger.ONE.shiftLeft(64).subtract(BigInteger.ONE);

    /** In the file's order. */
    final Map<String, Place> places = new LinkedHashMap<>();
    final Map<String, String> metadata = new LinkedHashMap<>();

    /**
     * Read a header and check it against the size of what follows it.
     *
     * @throws IllegalArgumentException that says what is wrong
     */
    SafetensorsHeader(byte[] header, long dataSize) {
        Map<String, Object> all = Json.object(text(header));
        readMetadata(all.remove("__metadata__"));
        for (Map.Entry<String, Object> entry : all.entrySet()) {
            places.put(checked(entry.getKey()), place(entry.getKey(), entry.getValue()));
        }
        checkThatTheyFill(dataSize);
    }

    private static String text(byte[] header) {
        try {
            return StandardCharsets.UTF_8.newDecoder().decode(ByteBuffer.wrap(header)).toString();
        } catch (CharacterCodingException error) {
            throw new IllegalArgumentException("its header is no UTF-8");
        }
    }

    private void readMetadata(Object given) {
        if (given == null) {
            return;
        }
        if (!(given instanceof Map)) {
            throw new IllegalArgumentException("its metadata is no object");
        }
        for (Map.Entry<?, ?> entry : ((Map<?, ?>) given).entrySet()) {
            if (!(entry.getValue() instanceof String)) {
                throw new IllegalArgumentException("its metadata holds more than strings");
            }
            metadata.put(checked((String) entry.getKey()), checked((String) entry.getValue()));
        }
    }

    /** Half of a surrogate pair, which JSON can escape, is no text. */
    private static String checked(String text) {
        if (!StandardCharsets.UTF_8.newEncoder().canEncode(text)) {
            throw new IllegalArgumentException("its header has half a surrogate pair");
        }
        return text;
    }

    private static Place place(String name, Object given) {
        if (!(given instanceof Map)) {
            throw new IllegalArgumentException("tensor '" + name + "' is no object");
        }
        Map<?, ?> entry = (Map<?, ?>) given;
        Object code = entry.get("dtype");
        Dtype dtype = code instanceof String ? Dtype.of((String) code) : null;
        BigInteger[] shape = wholes(entry.get("shape"));
        BigInteger[] offsets = wholes(entry.get("data_offsets"));
        if (dtype == null || shape == null || offsets == null || offsets.length != 2) {
            throw new IllegalArgumentException(
                "tensor '" + name + "' has no usable dtype, shape or data_offsets");
        }
        BigInteger bits = BigInteger.ONE;
        for (BigInteger axis : shape) {
            bits = bits.multiply(axis);
            if (bits.compareTo(LARGEST) > 0) {
                throw new IllegalArgumentException("tensor '" + name + "' is impossibly large");
            }
        }
        bits = bits.multiply(BigInteger.valueOf(dtype.bits));
        BigInteger size = offsets[1].subtract(offsets[0]);
        if (!size.shiftLeft(3).equals(bits) || offsets[1].bitLength() > 62) {
            throw new IllegalArgumentException(
                "tensor '" + name + "' has another size than its shape and dtype say");
        }
        return new Place(dtype, shape, offsets[0].longValue(), offsets[1].longValue());
    }

    /** Numbers from 0 to 2**64 - 1, or null if that is not what is given. */
    private static BigInteger[] wholes(Object given) {
        if (!(given instanceof List)) {
            return null;
        }
        List<?> list = (List<?>) given;
        BigInteger[] numbers = new BigInteger[list.size()];
        for (int i = 0; i < numbers.length; i++) {
            Object number = list.get(i);
            if (number instanceof Long) {
                numbers[i] = BigInteger.valueOf((Long) number);
            } else if (number instanceof Double && (Double) number >= 1e18) { // 19 digits
                numbers[i] = new BigDecimal((Double) number).toBigInteger();
            } else {
                return null;
            }
            if (numbers[i].signum() < 0 || numbers[i].compareTo(LARGEST) > 0) {
                return null;
            }
        }
        return numbers;
    }

    private void checkThatTheyFill(long dataSize) {
        List<Place> inOrder = new ArrayList<>(places.values());
        Collections.sort(inOrder, new Comparator<Place>() {
            @Override
            public int compare(Place one, Place other) {
                int first = Long.compare(one.begin, other.begin);
                return first != 0 ? first : Long.compare(one.end, other.end);
            }
        });
        long end = 0;
        for (Place place : inOrder) {
            if (place.begin != end) {
                throw new IllegalArgumentException("its tensors overlap, or leave holes");
            }
            end = place.end;
        }
        if (end != dataSize) {
            throw new IllegalArgumentException(
                "its tensors are of " + end + " bytes, but " + dataSize + " are there");
        }
    }
}
