package org.lorarar.core;

import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;

/**
 * LoRAs as an exported UNet takes them: the factors of each stage's projections.
 *
 * <p>A program takes all its factors in one rank: shorter ones are filled up with zeros, and
 * without a LoRA it gets rank 1 of zeros.
 */
final class Slots {
    private static final String PREFIX = "unet.";

    private final Map<String, List<Share>> layers;
    private final PipelineManifest manifest;
    /** Null where all do not fit the memory, so that each stage's are made when it runs. */
    private final Map<Stage, Tensor[]> kept;

    /**
     * Make all factors; those of layers that are not given are zero.
     *
     * @param source the exported folder, for messages
     * @throws LorararException if a layer has no slot, or another shape than its slot, if a rank
     *     is over the export's limit, or if weights are not finite
     */
    Slots(Map<String, List<Share>> layers, PipelineManifest manifest, String source)
            throws LorararException {
        this.layers = layers;
        this.manifest = manifest;
        for (Map.Entry<String, List<Share>> entry : layers.entrySet()) {
            List<Share> shares = entry.getValue();
            Share first = shares.get(0);
            String lora = shares.size() == 1 ? first.lora.source : "<memory>";
            checkFit(lora, entry.getKey(), first.layer, rank(shares), manifest, source);
        }
        boolean fits = bytes() < Runtime.getRuntime().maxMemory() / 3;
        Map<Stage, Tensor[]> made = new HashMap<>();
        for (Stage stage : manifest.stages("unet")) {
            Tensor[] factors = make(stage); // also where they are not kept, to refuse in time
            if (fits) {
                made.put(stage, factors);
            }
        }
        kept = fits ? made : null;
    }

    /** @throws LorararException unless a LoRA fits the slots */
    static void checkFit(Lora lora, PipelineManifest manifest, String source)
            throws LorararException {
        for (Map.Entry<String, Layer> entry : lora.layers.entrySet()) {
            Layer layer = entry.getValue();
            checkFit(lora.source, entry.getKey(), layer, layer.rank(), manifest, source);
        }
    }

    private static void checkFit(
            String lora, String name, Layer layer, int rank, PipelineManifest manifest,
            String source) throws LorararException {
        int[] slot = name.startsWith(PREFIX)
            ? manifest.projections.get(name.substring(PREFIX.length())) : null;
        String named = lora + ": layer '" + name + "' ";
        if (slot == null) {
            throw new LorararException(named + "has no slot in " + source + ", whose base is "
                + manifest.base + " and whose slots are the attention layers; "
                + "give a LoRA of these");
        }
        if (layer.out() != slot[0] || layer.in() != slot[1]) {
            throw new LorararException(named + "is " + layer.out() + "x" + layer.in() + ", but "
                + source + " (" + manifest.base + ") has " + slot[0] + "x" + slot[1]
                + "; this LoRA is for another base model");
        }
        if (rank > manifest.rank) {
            throw new LorararException(named + "has rank " + rank + ", but " + source + " takes "
                + manifest.rank + " at most; reduce it with: lorarar merge --rank");
        }
    }

    /** A stage's factors, down (rank, in) then up (out, rank) for each projection. */
    Tensor[] of(Stage stage) throws LorararException {
        return kept == null ? make(stage) : kept.get(stage);
    }

    private Tensor[] make(Stage stage) throws LorararException {
        int rank = rank(stage);
        List<Tensor> factors = new ArrayList<>();
        for (Map.Entry<String, int[]> entry : stage.projections.entrySet()) {
            String name = PREFIX + entry.getKey();
            int out = entry.getValue()[0];
            int in = entry.getValue()[1];
            float[] down = new float[rank * in];
            float[] up = new float[out * rank];
            List<Share> shares = layers.get(name);
            if (shares != null) {
                fill(shares, name, down, up, rank);
            }
            factors.add(Tensor.of(down, rank, in));
            factors.add(Tensor.of(up, out, rank));
        }
        return factors.toArray(new Tensor[0]);
    }

    private static void fill(List<Share> shares, String name, float[] down, float[] up, int rank)
            throws LorararException {
        int seat = 0;
        Lora[] loras = new Lora[shares.size()];
        for (int i = 0; i < loras.length; i++) {
            Share share = shares.get(i);
            loras[i] = share.lora;
            float[] rows = share.down();
            System.arraycopy(rows, 0, down, seat * share.layer.down.columns, rows.length);
            float[] columns = share.up();
            int width = share.rank();
            for (int row = 0; row < share.layer.out(); row++) {
                System.arraycopy(columns, row * width, up, row * rank + seat, width);
            }
            seat += width;
        }
        Weights.refuseBad(down, shares.get(0).dtype(), name, loras);
        Weights.refuseBad(up, shares.get(0).dtype(), name, loras);
    }

    private int rank(Stage stage) {
        int rank = 1;
        for (String projection : stage.projections.keySet()) {
            List<Share> shares = layers.get(PREFIX + projection);
            rank = Math.max(rank, shares == null ? 1 : rank(shares));
        }
        return rank;
    }

    private static int rank(List<Share> shares) {
        int rank = 0;
        for (Share share : shares) {
            rank += share.rank();
        }
        return rank;
    }

    private long bytes() {
        long numbers = 0;
        for (Stage stage : manifest.stages("unet")) {
            for (int[] shape : stage.projections.values()) {
                numbers += (long) rank(stage) * (shape[0] + shape[1]);
            }
        }
        return Float.BYTES * numbers;
    }
}
