package org.lorarar.core;

import java.io.File;
import java.io.FileOutputStream;
import java.io.IOException;
import java.io.InputStream;
import java.util.HashSet;
import java.util.Locale;
import java.util.Set;
import java.util.zip.ZipEntry;
import java.util.zip.ZipException;
import java.util.zip.ZipInputStream;

/** An exported folder that comes as a zip; nothing in the zip is trusted. */
public final class ZipFolder {
    private static final int MOST_FILES = 1000;
    private static final String MANIFEST = "lorarar.json";

    private ZipFolder() {}

    /** What a person sees meanwhile; it may throw to cancel. */
    public interface Progress {
        void unpacked(long bytes) throws LorararException;
    }

    /**
     * Unpack an exported folder, which the zip holds at its root or in its only folder.
     *
     * @param source the zip's name, for messages
     * @param folder what to make, in place of one that is there
     * @param most bytes that it may take
     * @throws LorararException if a name leads out of the folder or occurs twice, if it is too
     *     large, damaged, or holds no exported folder; then nothing is left
     */
    public static void unpack(
            InputStream zip, String source, File folder, long most, Progress progress)
            throws LorararException {
        File part = AtomicFile.part(folder);
        AtomicFile.delete(part);
        try (ZipInputStream in = new ZipInputStream(zip)) {
            unpackAll(in, source, part, most, progress);
            AtomicFile.replace(root(part, source), folder);
        } catch (LorararException error) {
            throw error;
        } catch (ZipException | IllegalArgumentException error) { // the latter: bad UTF-8 names
            throw new LorararException(
                    source + ": is no zip, or damaged (" + error.getMessage() + ")", error);
        } catch (IOException error) {
            throw new LorararException(
                    source + ": cannot be unpacked (" + error.getMessage() + ")", error);
        } finally {
            AtomicFile.delete(part);
        }
    }

    private static void unpackAll(
            ZipInputStream in, String source, File part, long most, Progress progress)
            throws IOException {
        Set<String> names = new HashSet<>();
        long size = 0;
        for (ZipEntry entry = in.getNextEntry(); entry != null; entry = in.getNextEntry()) {
            String name = entry.getName();
            checkName(name, source);
            if (!names.add(name.toLowerCase(Locale.ROOT))) { // shared storage ignores case
                throw new LorararException(source + ": has '" + name + "' twice");
            }
            if (names.size() > MOST_FILES) {
                throw new LorararException(source + ": has more than " + MOST_FILES + " files");
            }
            File file = new File(part, name);
            File parent = entry.isDirectory() ? file : file.getParentFile();
            if (!parent.isDirectory() && !parent.mkdirs()) {
                throw new LorararException(source + ": cannot make the folder of '" + name + "'");
            }
            if (!entry.isDirectory()) {
                size += write(in, file, most - size, source);
                progress.unpacked(size);
            }
        }
        if (names.isEmpty()) {
            throw new LorararException(source + ": is no zip, or an empty one");
        }
    }

    private static long write(InputStream in, File file, long most, String source)
            throws IOException {
        try (FileOutputStream out = new FileOutputStream(file)) {
            return AtomicFile.copy(in, out, most, source);
        }
    }

    private static void checkName(String name, String source) throws LorararException {
        boolean proper = !name.isEmpty() && !name.startsWith("/") && name.indexOf('\\') < 0
                && name.indexOf(':') < 0 && name.length() <= 200;
        for (String each : name.split("/", -1)) {
            proper &= !each.equals("..") && !each.equals(".");
        }
        for (char each : name.toCharArray()) {
            proper &= each >= ' ' && each != 127;
        }
        if (!proper) {
            throw new LorararException(
                    source + ": has a file whose name leads out of it or is none; zip it again");
        }
    }

    private static File root(File part, String source) throws LorararException {
        if (new File(part, MANIFEST).isFile()) {
            return part;
        }
        File found = null;
        for (File each : part.listFiles()) {
            if (new File(each, MANIFEST).isFile()) {
                if (found != null) {
                    throw new LorararException(source + ": holds more than one exported folder");
                }
                found = each;
            }
        }
        if (found == null) {
            throw new LorararException(
                    source + ": holds no exported folder (no " + MANIFEST + "); run: "
                            + "python export/to_executorch.py, then zip what it wrote");
        }
        return found;
    }
}
