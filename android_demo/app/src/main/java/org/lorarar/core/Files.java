package org.lorarar.core;

import java.io.File;
import java.io.IOException;
import java.io.RandomAccessFile;
import java.nio.charset.StandardCharsets;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;

/** Files as a whole: their text, their hash. */
public final class Files {
    private static final int BLOCK = 1 << 20;
    private static final int LONGEST_TEXT = 64 << 20; // bytes; a tokenizer's vocabulary has 1 MB

    private Files() {
    }

    /** The text of a small file, in UTF-8. */
    static String text(File file) throws LorararException {
        try (RandomAccessFile opened = new RandomAccessFile(file, "r")) {
            if (opened.length() > LONGEST_TEXT) {
                throw new LorararException(file + ": too large to be read as text");
            }
            byte[] bytes = new byte[(int) opened.length()];
            opened.readFully(bytes);
            return new String(bytes, StandardCharsets.UTF_8);
        } catch (LorararException error) {
            throw error;
        } catch (IOException error) {
            throw new LorararException(file + ": cannot be read (" + reason(file, error) + ")",
                error);
        }
    }

    /** What the system says, in the words that it has for it on a desktop. */
    static String reason(File file, IOException error) {
        return file.exists() ? error.getMessage() : "No such file or directory";
    }

    /** SHA-256 of a file, in hexadecimal. */
    public static String sha256(File file) throws LorararException {
        try (RandomAccessFile opened = new RandomAccessFile(file, "r")) {
            return hexadecimal(digest(opened, opened.length()));
        } catch (IOException error) {
            throw new LorararException(file + ": cannot be read (" + reason(file, error) + ")",
                error);
        }
    }

    /** SHA-256 of a file's first bytes, from where it is read next. */
    public static byte[] digest(RandomAccessFile opened, long size) throws IOException {
        MessageDigest digest;
        try {
            digest = MessageDigest.getInstance("SHA-256");
        } catch (NoSuchAlgorithmException error) {
            throw new IllegalStateException(error); // every Java has it
        }
        byte[] block = new byte[BLOCK];
        for (long left = size; left > 0;) {
            int part = (int) Math.min(left, block.length);
            opened.readFully(block, 0, part);
            digest.update(block, 0, part);
            left -= part;
        }
        return digest.digest();
    }

    private static String hexadecimal(byte[] bytes) {
        StringBuilder text = new StringBuilder();
        for (byte each : bytes) {
            text.append(Character.forDigit(each >> 4 & 15, 16));
            text.append(Character.forDigit(each & 15, 16));
        }
        return text.toString();
    }
}
