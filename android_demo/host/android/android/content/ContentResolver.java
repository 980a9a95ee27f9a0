package android.content;

import android.net.Uri;
import java.io.FileInputStream;
import java.io.FileNotFoundException;
import java.io.FileOutputStream;
import java.io.InputStream;
import java.io.OutputStream;

/** Stands in for Android's. */
public class ContentResolver {
    public final InputStream openInputStream(Uri uri) throws FileNotFoundException {
        return new FileInputStream(uri.path);
    }

    public final OutputStream openOutputStream(Uri uri) throws FileNotFoundException {
        return new FileOutputStream(uri.path);
    }
}
