package android.content;

import android.content.pm.PackageManager;
import android.content.res.AssetManager;
import java.io.File;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.util.Arrays;

/** Stands in for Android's: an app's files in a folder, its texts by their names. */
public class Context {
    public static final int MODE_PRIVATE = 0;

    private final File root;
    private final File assets;
    private final Class<?> strings;

    /** Of an app; strings: its class R.string. */
    public Context(File root, File assets, Class<?> strings) {
        this.root = root;
        this.assets = assets;
        this.strings = strings;
    }

    public File getFilesDir() {
        return folder("files");
    }

    public File getExternalFilesDir(String type) {
        return folder("external/" + type);
    }

    private File folder(String name) {
        File folder = new File(root, name);
        folder.mkdirs();
        return folder;
    }

    public SharedPreferences getSharedPreferences(String name, int mode) {
        return new Preferences(folder("preferences/" + name));
    }

    public final String getString(int text) {
        try {
            for (java.lang.reflect.Field field : strings.getFields()) {
                if (field.getInt(null) == text) {
                    return "<" + field.getName() + ">";
                }
            }
        } catch (IllegalAccessException error) {
            throw new IllegalStateException(error);
        }
        throw new IllegalArgumentException("no text " + text);
    }

    public final String getString(int text, Object... values) {
        return getString(text) + Arrays.toString(values);
    }

    public AssetManager getAssets() {
        return new AssetManager(assets);
    }

    public ContentResolver getContentResolver() {
        return new ContentResolver();
    }

    public PackageManager getPackageManager() {
        return new PackageManager();
    }

    public String getPackageName() {
        return "org.lorarar.app";
    }

    /** A file for each key. */
    private static final class Preferences
            implements SharedPreferences, SharedPreferences.Editor {
        private final File folder;

        Preferences(File folder) {
            this.folder = folder;
        }

        @Override
        public String getString(String key, String otherwise) {
            if (!contains(key)) {
                return otherwise;
            }
            try {
                byte[] bytes = Files.readAllBytes(new File(folder, key).toPath());
                return new String(bytes, StandardCharsets.UTF_8);
            } catch (IOException error) {
                throw new UncheckedIOException(error);
            }
        }

        @Override
        public boolean contains(String key) {
            return new File(folder, key).exists();
        }

        @Override
        public Editor edit() {
            return this;
        }

        @Override
        public Editor putString(String key, String value) {
            byte[] bytes = value.getBytes(StandardCharsets.UTF_8);
            try {
                Files.write(new File(folder, key).toPath(), bytes);
            } catch (IOException error) {
                throw new UncheckedIOException(error);
            }
            return this;
        }

        @Override
        public void apply() {}
    }
}
