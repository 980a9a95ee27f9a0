package org.lorarar.app;

import android.content.Context;
import android.content.pm.PackageInfo;
import android.content.pm.PackageManager;
import android.content.res.AssetManager;
import java.io.ByteArrayOutputStream;
import java.io.File;
import java.io.FileOutputStream;
import java.io.IOException;
import java.io.InputStream;
import java.nio.charset.StandardCharsets;
import org.lorarar.core.AtomicFile;
import org.lorarar.core.LorararException;
import org.lorarar.core.PipelineManifest;

/** What comes in the APK and is copied out of it, to be mapped: the model and the LoRAs. */
final class Embedded {
    private static final String MARK = "copied";
    private static final long LARGEST = 1L << 30;

    private Embedded() {}

    static File model(Context context) {
        return new File(folder(context), "model");
    }

    static File loras(Context context) {
        return new File(folder(context), "loras");
    }

    private static File folder(Context context) {
        return new File(context.getFilesDir(), "embedded");
    }

    /** Whether this very installation has copied its assets. */
    static boolean isCopied(Context context) throws LorararException {
        File mark = new File(folder(context), MARK);
        if (!mark.exists()) {
            return false;
        }
        byte[] kept = AtomicFile.read(mark, 1 << 10);
        return new String(kept, StandardCharsets.UTF_8).equals(version(context));
    }

    /** Copy all of it in place of what an older version copied, hashes checked. */
    static void copy(Context context) throws LorararException {
        File part = AtomicFile.part(folder(context));
        AtomicFile.delete(part);
        try {
            copy(context.getAssets(), "model", new File(part, "model"));
            copy(context.getAssets(), "loras", new File(part, "loras"));
        } catch (LorararException error) {
            throw error;
        } catch (IOException error) {
            throw new LorararException(
                    "the embedded model cannot be copied (" + error.getMessage() + ")", error);
        }
        File model = new File(part, "model");
        PipelineManifest.read(model).checkFiles(model, true);
        AtomicFile.write(
                new File(part, MARK), version(context).getBytes(StandardCharsets.UTF_8));
        AtomicFile.replace(part, folder(context));
    }

    /** A text among the assets. */
    static String text(Context context, String name) throws LorararException {
        try (InputStream in = context.getAssets().open(name)) {
            ByteArrayOutputStream out = new ByteArrayOutputStream();
            AtomicFile.copy(in, out, 64 << 20, name);
            return new String(out.toByteArray(), StandardCharsets.UTF_8);
        } catch (IOException error) {
            throw new LorararException(name + ": is not in this APK", error);
        }
    }

    private static void copy(AssetManager assets, String from, File to) throws IOException {
        String[] inside = assets.list(from);
        if (inside != null && inside.length > 0) {
            to.mkdirs();
            for (String each : inside) {
                copy(assets, from + "/" + each, new File(to, each));
            }
            return;
        }
        try (InputStream in = assets.open(from); FileOutputStream out = new FileOutputStream(to)) {
            AtomicFile.copy(in, out, LARGEST, from);
            out.getFD().sync();
        }
    }

    private static String version(Context context) {
        try {
            PackageInfo info =
                    context.getPackageManager().getPackageInfo(context.getPackageName(), 0);
            return info.versionCode + " " + info.lastUpdateTime;
        } catch (PackageManager.NameNotFoundException error) {
            throw new IllegalStateException(error); // it is this very app
        }
    }
}
