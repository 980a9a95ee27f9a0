package org.lorarar.core;

/** How a drawing moves from noise to latents; see lorarar.runtime.samplers. */
public enum Sampler {
    /** Euler's method (Karras et al. 2206.00364, algorithm 1). */
    EULER("euler", "EulerDiscreteScheduler", "EDMEulerScheduler"),
    /** Euler's method to less noise than asked for, and fresh noise for the rest. */
    EULER_ANCESTRAL("euler-a", "EulerAncestralDiscreteScheduler"),
    /** DPM-Solver++(2M) (Lu et al. 2211.01095, algorithm 2). */
    DPM_2M("dpm++2m", "DPMSolverMultistepScheduler", "EDMDPMSolverMultistepScheduler"),
    /** Multistep consistency sampling, for LCM models (Luo et al. 2310.04378, algorithm 3). */
    LCM("lcm", "LCMScheduler");

    /** As on the command line. */
    public final String title;
    private final String[] classes; // of diffusers, that draw so

    Sampler(String title, String... classes) {
        this.title = title;
        this.classes = classes;
    }

    /** @throws LorararException if there is none of this name */
    public static Sampler of(String title) throws LorararException {
        for (Sampler sampler : values()) {
            if (sampler.title.equals(title)) {
                return sampler;
            }
        }
        throw new LorararException("sampler '" + title + "' is unknown; use one of " + known());
    }

    static String known() {
        StringBuilder known = new StringBuilder();
        for (Sampler sampler : values()) {
            known.append(known.length() == 0 ? "" : ", ").append(sampler.title);
        }
        return known.toString();
    }

    /** The one that draws as a class of diffusers does, or null; for "None", Euler's. */
    static Sampler ofClass(String name) {
        for (Sampler sampler : values()) {
            for (String each : sampler.classes) {
                if (each.equals(name)) {
                    return sampler;
                }
            }
        }
        return name.equals("None") ? EULER : null;
    }
}
