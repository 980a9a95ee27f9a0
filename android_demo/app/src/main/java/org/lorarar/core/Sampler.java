package org.lorarar.core;

/** How a drawing moves from noise to latents; see lorarar.runtime.samplers. */
public enum Sampler {
    /** Euler's method (Karras et al. 2206.00364, algorithm 1). */
    EULER("euler"),
    /** DPM-Solver++(2M) (Lu et al. 2211.01095, algorithm 2). */
    DPM_2M("dpm++2m"),
    /** Multistep consistency sampling, for LCM models (Luo et al. 2310.04378, algorithm 3). */
    LCM("lcm");

    /** As on the command line. */
    public final String title;

    Sampler(String title) {
        this.title = title;
    }

    /** @throws LorararException if there is none of this name */
    public static Sampler of(String title) throws LorararException {
        StringBuilder known = new StringBuilder();
        for (Sampler sampler : values()) {
            if (sampler.title.equals(title)) {
                return sampler;
            }
            known.append(known.length() == 0 ? "" : ", ").append(sampler.title);
        }
        throw new LorararException("sampler '" + title + "' is unknown; use one of " + known);
    }
}
