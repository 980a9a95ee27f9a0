package org.lorarar.core;

import java.io.File;
import java.io.IOException;
import java.io.RandomAccessFile;
import java.math.BigInteger;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.channels.FileChannel;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.Map;

/**
 * A safetensors file, mapped: opening it reads the header, a tensor's bytes when it is used.
 *
 * <p>The format: github.com/huggingface/safetensors. The twin of lorarar/files.py.
 */
public final class Safetensors {
    /** A tensor. */
    public static final class Entry {
        public final Dtype dtype;
        public final long[] shape;
        private final Mapped data;

        Entry(Dtype dtype, long[] shape, Mapped data) {
            this.dtype = dtype;
            this.shape = shape;
            this.data = data;
        }

        /** How many numbers it holds. */
        public long size() {
            return Shapes.product(shape, 0);
        }

        /** Its bytes, little-endian, from 0 on; read from the file as they are used. */
        ByteBuffer bytes() {
            return data.bytes();
        }
    }

    private static final int MOST_HEADER = 25_000_000; // bytes; a LoRA of every layer has 400,000
    private static final int MOST_AXES = 64; // numpy's

    public final File file;
    /** In the header's order. */
    public final Map<String, Entry> tensors;
    public final Map<String, String> metadata;

    private Safetensors(File file, Map<String, Entry> tensors, Map<String, String> metadata) {
        this.file = file;
        this.tensors = Collections.unmodifiableMap(tensors);
        this.metadata = Collections.unmodifiableMap(metadata);
    }

    /**
     * Open a file and check its header.
     *
     * @throws LorararException if the file is missing, a directory, truncated, no safetensors
     *     file, or holds a dtype that numpy cannot show
     */
    public static Safetensors open(File file) throws LorararException {
        if (!file.isFile()) {
            String kind = file.isDirectory() ? "is a directory" : "does not exist";
            throw new LorararException(file + ": " + kind + "; name a .safetensors file");
        }
        try (RandomAccessFile opened = new RandomAccessFile(file, "r")) {
            return read(file, opened);
        } catch (LorararException error) {
            throw error;
        } catch (IOException error) {
            throw new LorararException(
                file + ": cannot be read (" + error.getMessage() + ")", error);
        }
    }

    private static Safetensors read(File file, RandomAccessFile opened) throws IOException {
        byte[] start = new byte[(int) Math.min(8, opened.length())];
        opened.readFully(start);
        SafetensorsHeader header;
        long dataStart;
        try {
            byte[] encoded = new byte[headerSize(start, opened.length())];
            opened.readFully(encoded);
            dataStart = 8 + encoded.length;
            header = new SafetensorsHeader(encoded, opened.length() - dataStart);
        } catch (IllegalArgumentException error) {
            refusePickle(file, start);
            throw new LorararException(file + ": not a valid safetensors file ("
                + error.getMessage() + "); get it again", error);
        }
        Map<String, long[]> shapes = shapes(file, header);
        Map<String, Mapped> data = Mapped.all(opened.getChannel(), dataStart, header.places);
        Map<String, Entry> tensors = new LinkedHashMap<>();
        for (Map.Entry<String, SafetensorsHeader.Place> each : header.places.entrySet()) {
            String name = each.getKey();
            Dtype dtype = each.getValue().dtype;
            tensors.put(name, new Entry(dtype, shapes.get(name), data.get(name)));
        }
        return new Safetensors(file, tensors, header.metadata);
    }

    private static int headerSize(byte[] start, long fileSize) {
        if (start.length < 8) {
            throw new IllegalArgumentException("it ends within its first 8 bytes");
        }
        long size = ByteBuffer.wrap(start).order(ByteOrder.LITTLE_ENDIAN).getLong();
        if (size < 0 || size > MOST_HEADER || size > fileSize - 8) {
            throw new IllegalArgumentException("its header is said to be larger than it can be");
        }
        return (int) size;
    }

    private static void refusePickle(File file, byte[] start) throws LorararException {
        boolean isZip = start.length >= 4
            && start[0] == 'P' && start[1] == 'K' && start[2] == 3 && start[3] == 4;
        if (isZip || start.length >= 1 && start[0] == (byte) 0x80) {
            throw new LorararException(file + ": not a valid safetensors file but a pickle "
                + "(torch.save), which may run code when it is read; if you trust it, save what "
                + "torch.load(..., weights_only=True) gives with safetensors.torch.save_file");
        }
    }

    private static Map<String, long[]> shapes(File file, SafetensorsHeader header)
            throws LorararException {
        Map<String, long[]> shapes = new LinkedHashMap<>();
        for (Map.Entry<String, SafetensorsHeader.Place> each : header.places.entrySet()) {
            SafetensorsHeader.Place place = each.getValue();
            String tensor = file + ": tensor '" + each.getKey() + "' has ";
            if (place.dtype.numpy == null) {
                throw new LorararException(
                    tensor + "dtype " + place.dtype + "; save it as F32, F16 or BF16");
            }
            String wrong = whyImpossible(place);
            if (wrong != null) {
                throw new LorararException(tensor + "an impossible shape (" + wrong + ")");
            }
            long[] shape = new long[place.shape.length];
            for (int i = 0; i < shape.length; i++) {
                shape[i] = place.shape[i].longValue();
            }
            shapes.put(each.getKey(), shape);
        }
        return shapes;
    }

    /** In numpy's words: an axis of 0 hides others that no array can have. */
    private static String whyImpossible(SafetensorsHeader.Place place) {
        if (place.shape.length > MOST_AXES) {
            return "maximum supported dimension for an ndarray is currently " + MOST_AXES
                + ", found " + place.shape.length;
        }
        BigInteger bytes = BigInteger.valueOf(place.dtype.bits / 8);
        for (BigInteger axis : place.shape) {
            if (axis.bitLength() > 63) {
                return "Maximum allowed dimension exceeded";
            }
            bytes = axis.signum() == 0 ? bytes : bytes.multiply(axis);
        }
        return bytes.bitLength() <= 63 ? null : "array is too big; `arr.size * "
            + "arr.dtype.itemsize` is larger than the maximum possible size.";
    }
}
