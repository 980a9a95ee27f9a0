package org.lorarar.app;

import java.io.File;
import org.lorarar.core.PipelineManifest;

/** A folder that may be a model: what it holds, or why it cannot be used. */
final class ModelEntry {
    final File folder;
    /** Null if it is refused. */
    final PipelineManifest manifest;
    /** Null if it can be opened; its files' hashes are checked then. */
    final String refusal;
    final boolean embedded;

    ModelEntry(File folder, PipelineManifest manifest, String refusal, boolean embedded) {
        this.folder = folder;
        this.manifest = manifest;
        this.refusal = refusal;
        this.embedded = embedded;
    }

    /** In bytes, of all the files that its manifest lists. */
    long size() {
        long size = 0;
        for (long each : manifest.sizes.values()) {
            size += each;
        }
        return size;
    }
}
