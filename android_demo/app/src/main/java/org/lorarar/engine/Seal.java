package org.lorarar.engine;

import java.io.File;
import java.io.IOException;
import java.io.RandomAccessFile;
import java.util.Arrays;
import org.lorarar.core.Files;
import org.lorarar.core.LorararException;

/** The SHA-256 that our exporter appends: the engine aborts on damage, or computes with it. */
final class Seal {
    private static final int SIZE = 32;

    private Seal() {}

    static void check(File file) throws LorararException {
        boolean whole;
        try (RandomAccessFile opened = new RandomAccessFile(file, "r")) {
            whole = isWhole(opened);
        } catch (IOException error) {
            throw new LorararException(
                    file + ": cannot be read (" + ExecuTorch.oneLine(error) + ")", error);
        }
        if (!whole) {
            throw new LorararException(
                    file + ": not an exported ExecuTorch program, or damaged; export it again");
        }
    }

    private static boolean isWhole(RandomAccessFile opened) throws IOException {
        long end = opened.length() - SIZE;
        if (end < 0) {
            return false;
        }
        byte[] digest = Files.digest(opened, end);
        byte[] seal = new byte[SIZE];
        opened.readFully(seal);
        return Arrays.equals(digest, seal);
    }
}
