package org.lorarar.core;

import java.util.HashMap;
import java.util.Map;

/** The UNet under classifier-free guidance (Ho and Salimans 2207.12598), one text after another. */
final class Unet implements Trajectory.Model {
    private final Pipeline pipeline;
    private final Embedding[] texts; // what is asked for, the last; before it what guides away
    private final float guidance;
    private final Slots slots;

    Unet(Pipeline pipeline, Embedding[] texts, float guidance, Slots slots) {
        this.pipeline = pipeline;
        this.texts = texts;
        this.guidance = guidance;
        this.slots = slots;
    }

    /** unguided + guidance * (asked - unguided). */
    @Override
    public float[] run(float[] scaled, double time) throws LorararException {
        float[] first = predict(scaled, time, texts[0]);
        if (texts.length == 1) {
            return first;
        }
        float[] asked = predict(scaled, time, texts[1]);
        for (int i = 0; i < first.length; i++) {
            first[i] += guidance * (asked[i] - first[i]);
        }
        return first;
    }

    private float[] predict(float[] scaled, double time, Embedding text) throws LorararException {
        float pixels = pipeline.manifest.side * pipeline.manifest.pixels;
        // The size of a training picture, its crop's corner and the size to draw.
        float[] sizes = {pixels, pixels, 0, 0, pixels, pixels};
        Map<String, Tensor> given = new HashMap<>();
        given.put("encoder_hidden_states", text.hidden);
        given.put("text_embeds", text.pooled);
        given.put("time_ids", Tensor.of(sizes, 1, 6));
        given.put("sample", pipeline.latentTensor(scaled));
        given.put("timestep", Tensor.of(new float[] {(float) time}, 1));
        return pipeline.run("unet", given, slots).get("out_sample").floats;
    }
}
