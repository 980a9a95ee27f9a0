package org.lorarar.app;

import android.content.Context;
import java.io.File;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import org.lorarar.core.LorararException;
import org.lorarar.core.PipelineManifest;

/** Exported folders: the embedded one, and those that a person pushed or unpacked. */
final class Models {
    private static final String FOLDER = "models";

    private Models() {}

    /** Where a person puts exported folders; null while the shared storage is not there. */
    static File pushed(Context context) {
        return context.getExternalFilesDir(FOLDER);
    }

    /** The embedded one, then the others by name. */
    static List<ModelEntry> list(Context context) {
        List<ModelEntry> models = new ArrayList<>();
        models.add(entry(Embedded.model(context), true));
        File pushed = pushed(context);
        File[] folders = pushed == null ? null : pushed.listFiles();
        if (folders != null) {
            Arrays.sort(folders);
            for (File each : folders) {
                if (each.isDirectory() && !each.getName().startsWith(".")) {
                    models.add(entry(each, false));
                }
            }
        }
        return models;
    }

    /**
     * Where to unpack a zip of this name.
     *
     * @throws LorararException if the name is none, or the shared storage is not there
     */
    static File folderFor(Context context, String zip) throws LorararException {
        String name = zip.replaceAll("(?i)\\.zip$", "");
        if (!name.matches("[\\w -]{1,80}")) {
            throw new LorararException(
                    "'" + name + "': is no name of a folder; rename the zip in plain letters");
        }
        File pushed = pushed(context);
        if (pushed == null) {
            throw new LorararException(zip + ": cannot be unpacked, as the storage is not there");
        }
        return new File(pushed, name);
    }

    private static ModelEntry entry(File folder, boolean embedded) {
        try {
            PipelineManifest manifest = PipelineManifest.read(folder);
            manifest.checkFiles(folder, false);
            return new ModelEntry(folder, manifest, null, embedded);
        } catch (LorararException error) {
            return new ModelEntry(folder, null, error.getMessage(), embedded);
        }
    }
}
