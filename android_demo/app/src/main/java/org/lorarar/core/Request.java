package org.lorarar.core;

/** What to draw. */
public final class Request {
    public final String prompt;
    /** Null means zeros where the model was trained so, "" the empty prompt. */
    public final String negative;
    /** How often the model is called. */
    public final int steps;
    /** 1 or less for none. */
    public final float guidance;
    /** From 0 on; gives the same noise on every engine and in Python. */
    public final long seed;
    /** Null means that of the model's own scheduler. */
    public final Sampler sampler;

    public Request(
            String prompt, String negative, int steps, float guidance, long seed,
            Sampler sampler) {
        this.prompt = prompt;
        this.negative = negative;
        this.steps = steps;
        this.guidance = guidance;
        this.seed = seed;
        this.sampler = sampler;
    }

    /** All of it in one line, equal for equal requests. */
    String key() {
        return steps + " " + guidance + " " + seed + " " + (sampler == null ? "own" : sampler.title)
            + " " + prompt.length() + " " + prompt + " " + (negative == null ? "none" : "not " + negative);
    }
}
