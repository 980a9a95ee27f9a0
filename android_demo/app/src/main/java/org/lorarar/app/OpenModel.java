package org.lorarar.app;

import java.io.File;
import org.lorarar.core.Choices;
import org.lorarar.core.LayerNames;
import org.lorarar.core.Lora;
import org.lorarar.core.LorararException;
import org.lorarar.core.MergeTime;
import org.lorarar.core.Pipeline;
import org.lorarar.engine.ExecuTorch;

/** The model in use, and the LoRAs merged into it; for the worker's thread alone. */
final class OpenModel {
    final Pipeline pipeline;
    private Choices merged; // those whose LoRAs draw now; null if unknown
    private Lora content;
    private Lora style;

    private OpenModel(Pipeline pipeline) {
        this.pipeline = pipeline;
    }

    /** @throws LorararException if the folder is no exported pipeline that can run here */
    static OpenModel open(File folder, boolean checkHashes) throws LorararException {
        int threads = Math.max(1, Runtime.getRuntime().availableProcessors() / 2); // the large ones
        return new OpenModel(Pipeline.open(folder, new ExecuTorch(threads), checkHashes));
    }

    /** What tells the model from others of the same architecture. */
    String identity() {
        return pipeline.manifest.identity + " " + pipeline.manifest.quantize;
    }

    /**
     * Have the chosen LoRAs draw, unless they do.
     *
     * @param contentFile the chosen subject's, or null; styleFile likewise
     * @throws LorararException if one cannot be read, or does not fit
     */
    void merge(Choices choices, File contentFile, File styleFile, LayerNames names)
            throws LorararException {
        if (merged != null && merged.mergesAs(choices)) {
            return;
        }
        merged = null;
        content = load(contentFile, content, names);
        style = load(styleFile, style, names);
        if (content != null && style != null) {
            pipeline.usePair(content, style, choices.contentScale, choices.styleScale);
        } else if (content != null || style != null) {
            pipeline.useLora(content != null ? content : style);
        } else {
            pipeline.noLora();
        }
        merged = choices;
    }

    /** How long merging took, or null if no pair is merged. */
    MergeTime time() {
        boolean isPair = merged != null && content != null && style != null;
        return isPair ? pipeline.mergeTime() : null;
    }

    /** The chosen subject, or null. */
    Lora content() {
        return content;
    }

    /** The chosen style, or null. */
    Lora style() {
        return style;
    }

    /** Read the LoRAs again at the next merge, as files or the pipeline have changed. */
    void forget() {
        merged = null;
        content = null;
        style = null;
    }

    private static Lora load(File file, Lora before, LayerNames names) throws LorararException {
        if (file == null) {
            return null;
        }
        boolean isSame = before != null && before.source.equals(file.getPath());
        return isSame ? before : Lora.load(file, names);
    }
}
