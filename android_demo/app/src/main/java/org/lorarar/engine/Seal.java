package org.lorarar.engine;

import java.io.File;
import java.io.IOException;
import java.io.RandomAccessFile;
import java.nio.MappedByteBuffer;
import java.nio.channels.FileChannel;
import java.security.MessageDigest;
import java.security.NoSuchAlgorithmException;
import java.util.Arrays;
import org.lorarar.core.LorararException;

/** The SHA-256 that our exporter appends: the engine aborts on damage, or computes with it. */
final class Seal {
    private static final int SIZE = 32;
    private static final int PIECE = 1 << 24;

    private Seal() {}

    static void check(File file) throws LorararException {
        boolean whole;
        try (RandomAccessFile opened = new RandomAccessFile(file, "r")) {
            whole = isWhole(opened.getChannel());
        } catch (IOException error) {
            throw new LorararException(
                    file + ": cannot be read (" + ExecuTorch.oneLine(error) + ")", error);
        }
        if (!whole) {
            throw new LorararException(
                    file + ": not an exported ExecuTorch program, or damaged; export it again");
        }
    }

    private static boolean isWhole(FileChannel channel) throws IOException {
        long end = channel.size() - SIZE;
        if (end < 0) {
            return false;
        }
        MessageDigest digest = sha256();
        for (long at = 0; at < end; at += PIECE) {
            digest.update(map(channel, at, Math.min(PIECE, end - at)));
        }
        byte[] seal = new byte[SIZE];
        map(channel, end, SIZE).get(seal);
        return Arrays.equals(digest.digest(), seal);
    }

    private static MappedByteBuffer map(FileChannel channel, long at, long size)
            throws IOException {
        return channel.map(FileChannel.MapMode.READ_ONLY, at, size);
    }

    private static MessageDigest sha256() {
        try {
            return MessageDigest.getInstance("SHA-256");
        } catch (NoSuchAlgorithmException error) {
            throw new IllegalStateException(error); // every Java has it
        }
    }
}
