package org.lorarar.core;

import java.io.ByteArrayOutputStream;
import java.io.File;
import java.io.FileInputStream;
import java.io.FileOutputStream;
import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;

/** Files and folders that are either as before or complete, whenever the process is ended. */
public final class AtomicFile {
    /** What a name ends with while it is being written; {@link #clean} removes what was left. */
    public static final String PART = ".part";

    private AtomicFile() {}

    /** Write a file, in place of one that is there. */
    public static void write(File file, byte[] bytes) throws LorararException {
        File part = part(file);
        try (FileOutputStream out = new FileOutputStream(part)) {
            out.write(bytes);
            out.getFD().sync();
        } catch (IOException error) {
            part.delete();
            throw new LorararException(
                    file.getName() + ": cannot be kept (" + error.getMessage() + ")", error);
        }
        replace(part, file);
    }

    /** Read a whole file of at most `most` bytes. */
    public static byte[] read(File file, long most) throws LorararException {
        if (file.length() > most) {
            throw new LorararException(file.getName() + ": is over " + most + " bytes");
        }
        try (InputStream in = new FileInputStream(file)) {
            ByteArrayOutputStream out = new ByteArrayOutputStream();
            copy(in, out, most, file.getName());
            return out.toByteArray();
        } catch (LorararException error) {
            throw error;
        } catch (IOException error) {
            throw new LorararException(
                    file.getName() + ": cannot be read (" + error.getMessage() + ")", error);
        }
    }

    /**
     * Copy a stream to its end and return its bytes.
     *
     * @throws LorararException if there are more than `most`
     */
    public static long copy(InputStream in, OutputStream out, long most, String name)
            throws IOException {
        byte[] buffer = new byte[1 << 16];
        long size = 0;
        for (int count = in.read(buffer); count >= 0; count = in.read(buffer)) {
            size += count;
            if (size > most) {
                throw new LorararException(name + ": is over " + most / 1e9 + " GB");
            }
            out.write(buffer, 0, count);
        }
        return size;
    }

    /** Where a file or folder is made before {@link #replace} gives it its name. */
    public static File part(File target) {
        return new File(target.getParentFile(), target.getName() + PART);
    }

    /** Rename a finished file or folder, in place of what has its name. */
    public static void replace(File part, File target) throws LorararException {
        if (target.isDirectory()) {
            delete(target); // only an empty folder can be renamed over
        }
        if (!part.renameTo(target)) {
            delete(part);
            throw new LorararException(target.getName() + ": cannot be kept here");
        }
    }

    /** Delete a file, or a folder with all that is in it. */
    public static void delete(File file) {
        File[] inside = file.listFiles();
        if (inside != null) {
            for (File each : inside) {
                delete(each);
            }
        }
        file.delete();
    }

    /** Delete what an ended process has left half written in a folder. */
    public static void clean(File folder) {
        File[] inside = folder.listFiles();
        if (inside == null) {
            return;
        }
        for (File each : inside) {
            if (each.getName().endsWith(PART)) {
                delete(each);
            }
        }
    }
}
