package android.content.res;

import java.io.File;
import java.io.FileInputStream;
import java.io.IOException;
import java.io.InputStream;

/** Stands in for Android's: a folder. */
public final class AssetManager {
    private final File folder;

    public AssetManager(File folder) {
        this.folder = folder;
    }

    public String[] list(String path) throws IOException {
        String[] inside = new File(folder, path).list();
        return inside == null ? new String[0] : inside;
    }

    public InputStream open(String path) throws IOException {
        return new FileInputStream(new File(folder, path));
    }
}
