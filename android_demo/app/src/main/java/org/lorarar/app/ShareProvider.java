package org.lorarar.app;

import android.content.ContentProvider;
import android.content.ContentValues;
import android.content.Context;
import android.database.Cursor;
import android.database.MatrixCursor;
import android.net.Uri;
import android.os.ParcelFileDescriptor;
import android.provider.OpenableColumns;
import java.io.File;
import java.io.FileNotFoundException;
import java.util.List;

/** Lets other apps read what was shared with them: files of cache/share, one address at a time. */
public final class ShareProvider extends ContentProvider {
    private static final String AUTHORITY = "org.lorarar.app.share";

    /** Where to put a file that is to be shared. */
    static File folder(Context context) {
        return new File(context.getCacheDir(), "share");
    }

    /** The address of a file in that folder. */
    static Uri address(File file) {
        return new Uri.Builder().scheme("content").authority(AUTHORITY)
                .appendPath(file.getName()).build();
    }

    @Override
    public boolean onCreate() {
        return true;
    }

    @Override
    public ParcelFileDescriptor openFile(Uri uri, String mode) throws FileNotFoundException {
        if (!"r".equals(mode)) {
            throw new FileNotFoundException("is only to be read");
        }
        return ParcelFileDescriptor.open(file(uri), ParcelFileDescriptor.MODE_READ_ONLY);
    }

    @Override
    public String getType(Uri uri) {
        String name = String.valueOf(uri.getLastPathSegment());
        return name.endsWith(".png") ? "image/png" : "application/json";
    }

    @Override
    public Cursor query(Uri uri, String[] asked, String where, String[] values, String order) {
        String[] columns = {OpenableColumns.DISPLAY_NAME, OpenableColumns.SIZE};
        MatrixCursor cursor = new MatrixCursor(columns);
        try {
            File file = file(uri);
            cursor.addRow(new Object[] {file.getName(), file.length()});
        } catch (FileNotFoundException error) {
            // no row: there is no such file
        }
        return cursor;
    }

    private File file(Uri uri) throws FileNotFoundException {
        List<String> path = uri.getPathSegments();
        String name = path.size() == 1 ? path.get(0) : "..";
        File file = new File(folder(getContext()), name);
        if (name.startsWith(".") || name.indexOf('/') >= 0 || !file.isFile()) {
            throw new FileNotFoundException("no such file");
        }
        return file;
    }

    @Override
    public Uri insert(Uri uri, ContentValues values) {
        throw new UnsupportedOperationException();
    }

    @Override
    public int delete(Uri uri, String where, String[] values) {
        throw new UnsupportedOperationException();
    }

    @Override
    public int update(Uri uri, ContentValues values, String where, String[] more) {
        throw new UnsupportedOperationException();
    }
}
