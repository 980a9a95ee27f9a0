package org.lorarar.core;

import java.io.File;
import java.util.Collections;
import java.util.HashMap;
import java.util.List;
import java.util.Map;

/**
 * An exported pipeline, open: prompt in, picture out, as SDXL's paper has it (2307.01952).
 *
 * <p>The twin of lorarar.runtime.pipeline. Threads may share it: one at a time runs the engine.
 */
public final class Pipeline implements AutoCloseable {
    private static final String[] ENCODERS = {"text_encoder", "text_encoder_2"};

    public final PipelineManifest manifest;
    final NoiseSchedule schedule;
    private final File folder;
    private final Parts parts;
    private final Tokenizer[] tokenizers;
    private final Merger merger; // null if the folder has none
    private final Slots empty;
    private Slots slots;
    private String loras = "none";
    private MergeTime mergeTime;

    private Pipeline(File folder, PipelineManifest manifest, Engine engine)
            throws LorararException {
        this.folder = folder;
        this.manifest = manifest;
        schedule = NoiseSchedule.read(new File(folder, "scheduler/scheduler_config.json"));
        tokenizers = new Tokenizer[] {
            Tokenizer.read(new File(folder, "tokenizer")),
            Tokenizer.read(new File(folder, "tokenizer_2")),
        };
        empty = new Slots(
            Collections.<String, List<Share>>emptyMap(), manifest, folder.toString());
        slots = empty;
        parts = new Parts(folder, manifest, engine);
        boolean isOpen = false;
        try {
            merger = manifest.merger == null
                ? null : Merger.open(new File(folder, manifest.merger), engine);
            isOpen = true;
        } finally {
            if (!isOpen) {
                parts.close();
            }
        }
    }

    /**
     * Open what `lorarar export` wrote; weights are mapped where the engine maps them.
     *
     * @param checkHashes whether to compare every file's SHA-256 with the manifest's
     * @throws LorararException if the folder is none, of a newer format, of another engine,
     *     damaged or incomplete
     */
    public static Pipeline open(File folder, Engine engine, boolean checkHashes)
            throws LorararException {
        PipelineManifest manifest = PipelineManifest.read(folder);
        manifest.checkEngine(folder);
        manifest.checkFiles(folder, checkHashes);
        return new Pipeline(folder, manifest, engine);
    }

    /** Draw without a LoRA from now on. */
    public synchronized void noLora() {
        slots = empty;
        loras = "none";
    }

    /**
     * Draw with this LoRA from now on.
     *
     * @throws LorararException if it does not fit; then what was before stays
     */
    public synchronized void useLora(Lora lora) throws LorararException {
        slots = new Slots(Share.alone(lora), manifest, folder.toString());
        loras = lora.source;
    }

    /**
     * Merge two LoRAs by the exported hypernetwork and draw with both from now on.
     *
     * @throws LorararException if they do not fit, or if the folder has no hypernetwork; then
     *     what was before stays
     */
    public synchronized void usePair(
            Lora content, Lora style, float contentScale, float styleScale)
            throws LorararException {
        Merged merged = Merged.of(content, style, contentScale, styleScale, merger, manifest,
            folder.toString());
        slots = merged.slots;
        mergeTime = merged.time;
        loras = content.source + " " + contentScale + ", " + style.source + " " + styleScale;
    }

    /** How long the last merge took, or null if there was none. */
    public synchronized MergeTime mergeTime() {
        return mergeTime;
    }

    /** The hypernetwork, or null if the folder has none. */
    public Merger merger() {
        return merger;
    }

    /**
     * Begin a picture: its noise, and its texts encoded; the LoRAs are those of now.
     *
     * @throws LorararException if the steps are more or less than can be, or without a sampler
     */
    public synchronized Drawing start(Request request) throws LorararException {
        if (request.seed < 0) {
            throw new LorararException("seed " + request.seed + ": must be 0 or more");
        }
        int size = manifest.channels * manifest.side * manifest.side;
        Trajectory way = new Trajectory(
            schedule.settled(request.sampler), schedule, request.steps, request.seed, size);
        return new Drawing(
            way, new Unet(this, texts(request), request.guidance, slots), key(request));
    }

    /** What tells a picture, its model and its LoRAs from others. */
    private String key(Request request) {
        return manifest.identity + " " + manifest.quantize + " " + loras + " " + request.key();
    }

    /** How many tokens at a prompt's end are left out, as the UNet takes no more. */
    public int cut(String prompt) {
        return Math.max(tokenizers[0].cut(prompt), tokenizers[1].cut(prompt));
    }

    /**
     * The picture of latents, (channels, side, side).
     *
     * @throws LorararException if the engine fails
     */
    public Picture decode(float[] latents) throws LorararException {
        float[] scaled = latents.clone();
        for (int i = 0; i < scaled.length; i++) {
            scaled[i] /= manifest.scaling;
        }
        Map<String, Tensor> given = new HashMap<>();
        given.put("latent_sample", latentTensor(scaled));
        float[] sample = run("vae_decoder", given, null).get("sample").floats;
        int side = manifest.side * manifest.pixels;
        return Picture.of(sample, side, side);
    }

    Tensor latentTensor(float[] latents) {
        return Tensor.of(latents, 1, manifest.channels, manifest.side, manifest.side);
    }

    synchronized Map<String, Tensor> run(String part, Map<String, Tensor> given, Slots factors)
            throws LorararException {
        return parts.run(part, given, factors);
    }

    /** What is asked for, after what guidance leads away from, if there is any. */
    private Embedding[] texts(Request request) throws LorararException {
        Embedding asked = encode(request.prompt);
        if (request.guidance <= 1) {
            return new Embedding[] {asked};
        }
        if (request.negative == null && manifest.zerosForEmpty) {
            return new Embedding[] {asked.zeros(), asked};
        }
        return new Embedding[] {
            encode(request.negative == null ? "" : request.negative), asked};
    }

    /** Both encoders' last hidden states but one, side by side, and the second's pooled. */
    private Embedding encode(String prompt) throws LorararException {
        Tensor[] states = new Tensor[2];
        Tensor pooled = null;
        for (int i = 0; i < 2; i++) {
            long[] ids = tokenizers[i].ids(prompt);
            Map<String, Tensor> given = new HashMap<>();
            given.put("input_ids", Tensor.of(ids, 1, ids.length));
            Map<String, Tensor> outputs = run(ENCODERS[i], given, null);
            states[i] = outputs.get(manifest.penultimate.get(ENCODERS[i]));
            pooled = outputs.get("text_embeds");
        }
        return new Embedding(Embedding.sideBySide(states[0], states[1]), pooled);
    }

    @Override
    public synchronized void close() {
        parts.close();
        if (merger != null) {
            merger.close();
        }
    }
}
