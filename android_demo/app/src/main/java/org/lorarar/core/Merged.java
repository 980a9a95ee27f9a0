package org.lorarar.core;

import java.util.Map;

/** Two LoRAs, merged by an exported hypernetwork and set into a UNet's slots. */
final class Merged {
    final Map<String, float[][]> coefficients;
    final Slots slots;
    final MergeTime time;

    private Merged(Map<String, float[][]> coefficients, Slots slots, MergeTime time) {
        this.coefficients = coefficients;
        this.slots = slots;
        this.time = time;
    }

    /**
     * Merge; what is checked before is not in the time.
     *
     * @param merger null where the exported folder has none
     * @param folder the exported one, for messages
     * @throws LorararException if the LoRAs are damaged, or do not fit each other or the slots
     */
    static Merged of(
            Lora content, Lora style, float contentScale, float styleScale, Merger merger,
            PipelineManifest manifest, String folder) throws LorararException {
        Lora[] pair = {content, style};
        for (Lora lora : pair) {
            Slots.checkFit(lora, manifest, folder);
            lora.refuseBadWeights();
        }
        if (merger == null) {
            throw new LorararException(folder + ": has no hypernetwork; export it with "
                + "--hypernet, or use another method");
        }
        long started = System.nanoTime();
        Map<String, float[][]> coefficients = merger.coefficients(content, style);
        long predicted = System.nanoTime();
        float[] scales = {contentScale, styleScale};
        Slots slots = new Slots(Share.merged(pair, coefficients, scales), manifest, folder);
        MergeTime time = new MergeTime(predicted - started, System.nanoTime() - predicted);
        return new Merged(coefficients, slots, time);
    }
}
