package org.lorarar.app;

import android.content.Context;
import android.database.Cursor;
import android.net.Uri;
import android.provider.OpenableColumns;
import java.io.File;
import java.io.FileInputStream;
import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import org.lorarar.core.AtomicFile;
import org.lorarar.core.LorararException;

/** Files of other apps, that a person has chosen in the system's dialogue. */
final class Documents {
    private static final long LARGEST = 1L << 30;

    private Documents() {}

    /** Open one to be read; what its app throws, of whatever kind, is an IOException. */
    static InputStream open(Context context, Uri uri) throws IOException {
        InputStream in;
        try {
            in = context.getContentResolver().openInputStream(uri);
        } catch (RuntimeException error) { // a provider throws anything
            throw new IOException(error.toString(), error);
        }
        if (in == null) {
            throw new IOException("its app gives nothing");
        }
        return in;
    }

    /** The name that its app gives it. */
    static String name(Context context, Uri uri) {
        String[] columns = {OpenableColumns.DISPLAY_NAME};
        try (Cursor found = context.getContentResolver().query(uri, columns, null, null, null)) {
            if (found != null && found.moveToFirst() && !found.isNull(0)) {
                return found.getString(0);
            }
        } catch (RuntimeException error) { // a provider throws anything
            return String.valueOf(uri.getLastPathSegment());
        }
        return String.valueOf(uri.getLastPathSegment());
    }

    /** That one cannot be read, unless the error says what was wrong with it. */
    static LorararException unreadable(String name, IOException error) {
        if (error instanceof LorararException) {
            return (LorararException) error;
        }
        return new LorararException(
                name + ": cannot be read (" + error.getMessage() + ")", error);
    }

    /** Copy a picture of this app to one. */
    static void save(Context context, File picture, Uri uri) throws LorararException {
        try (InputStream in = new FileInputStream(picture);
                OutputStream out = context.getContentResolver().openOutputStream(uri)) {
            AtomicFile.copy(in, out, LARGEST, picture.getName());
        } catch (IOException | RuntimeException error) { // its app throws anything
            throw new LorararException(
                    picture.getName() + ": cannot be saved there (" + error + ")", error);
        }
    }
}
