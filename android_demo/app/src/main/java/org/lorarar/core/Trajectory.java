package org.lorarar.core;

/**
 * A sampler on its way from noise to latents, the twin of lorarar.runtime.samplers.
 *
 * <p>Its state between steps is x, for DPM-Solver++ the denoised latents of the step before, and
 * how many steps are done.
 */
final class Trajectory {
    /** What predicts; the UNet under guidance. */
    interface Model {
        /** latents / sqrt(sigma^2 + 1), and a timestep -> the model's output, fresh. */
        float[] run(float[] scaled, double time) throws LorararException;
    }

    private static final int LCM_TRAINED_STEPS = 50;
    private static final double LCM_SCALING = 10;
    private static final double LCM_SIGMA = 0.5;

    final int steps;
    float[] x;
    /** Denoised by the step before, or null. */
    float[] before;
    int done;
    private final Sampler sampler;
    private final NoiseSchedule schedule;
    private final Noise noise;
    private final double[] times;
    private final double[] sigmas; // one more than times, the last 0

    /** @throws LorararException if the schedule has fewer timesteps than steps */
    Trajectory(Sampler sampler, NoiseSchedule schedule, int steps, long seed, int size)
            throws LorararException {
        this.sampler = sampler;
        this.schedule = schedule;
        this.steps = steps;
        times = times(sampler, schedule, steps);
        sigmas = new double[steps + 1];
        for (int i = 0; i < steps; i++) {
            sigmas[i] = schedule.sigmaAt(times[i]);
        }
        noise = new Noise(seed);
        x = noise.draw(size);
        boolean isPlain = sampler == Sampler.EULER && !schedule.spacing.equals("leading");
        float start = (float) (isPlain ? sigmas[0] : Math.sqrt(sigmas[0] * sigmas[0] + 1));
        for (int i = 0; i < size; i++) {
            x[i] *= start;
        }
    }

    private static double[] times(Sampler sampler, NoiseSchedule schedule, int steps)
            throws LorararException {
        switch (sampler) {
            case EULER:
                return schedule.timesteps(steps, steps);
            case DPM_2M:
                int more = schedule.spacing.equals("trailing") ? 0 : 1;
                double[] times = schedule.timesteps(steps, steps + more);
                for (int i = 0; i < steps; i++) {
                    times[i] = Math.rint(times[i]);
                }
                return times;
            default:
                return lcmTimes(schedule.sigmas.length, steps);
        }
    }

    /** The spacing is always that of LCM's training. */
    private static double[] lcmTimes(int count, int steps) throws LorararException {
        int limit = Math.min(LCM_TRAINED_STEPS, count);
        if (steps < 1 || steps > limit) {
            throw new LorararException("steps " + steps + ": lcm takes 1 to " + limit);
        }
        double[] times = new double[steps];
        for (int i = 0; i < steps; i++) {
            int index = (int) (i * ((double) limit / steps));
            times[i] = (limit - index) * (count / limit) - 1;
        }
        return times;
    }

    /** Set the state to what it was between two steps; noise drawn until then is drawn again. */
    void goOn(float[] latents, float[] denoisedBefore, int stepsDone) {
        x = latents;
        before = denoisedBefore;
        done = stepsDone;
        for (int i = 0; sampler == Sampler.LCM && i < done; i++) {
            noise.draw(x.length);
        }
    }

    /** Take the next step; x is a new array afterwards. */
    void step(Model model) throws LorararException {
        double sigma = sigmas[done];
        double next = sigmas[done + 1];
        float[] denoised = denoised(model, sigma, times[done]);
        switch (sampler) {
            case EULER:
                x = euler(denoised, sigma, next);
                break;
            case DPM_2M:
                x = dpm(denoised, sigma, next);
                break;
            default:
                x = lcm(denoised, sigma, next);
        }
        done++;
    }

    /** What the model takes x for without its noise (Karras et al. 2206.00364, section 5). */
    private float[] denoised(Model model, double sigma, double time) throws LorararException {
        float scale = (float) Math.sqrt(sigma * sigma + 1);
        float[] scaled = new float[x.length];
        for (int i = 0; i < x.length; i++) {
            scaled[i] = x[i] / scale;
        }
        float[] result = model.run(scaled, time);
        float factor = (float) sigma;
        for (int i = 0; i < x.length; i++) {
            result[i] = schedule.predictsV
                ? x[i] / (scale * scale) - factor / scale * result[i]
                : x[i] - factor * result[i];
        }
        return result;
    }

    private float[] euler(float[] denoised, double sigma, double next) {
        float factor = (float) ((next - sigma) / sigma);
        float[] moved = new float[x.length];
        for (int i = 0; i < x.length; i++) {
            moved[i] = x[i] + (x[i] - denoised[i]) * factor;
        }
        return moved;
    }

    /** r x + (1 - r) (x_0 + (x_0 - x_0 before) h / (2 h before)), h = -log r; first order last. */
    private float[] dpm(float[] denoised, double sigma, double next) {
        float ratio = (float) (next / sigma);
        float factor = 0;
        if (before != null && next != 0) {
            double width = Math.log(sigma / next);
            factor = (float) (width / Math.log(sigmas[done - 1] / sigma) / 2);
        }
        float[] moved = new float[x.length];
        for (int i = 0; i < x.length; i++) {
            float estimate = denoised[i];
            if (factor != 0) {
                estimate += (denoised[i] - before[i]) * factor;
            }
            moved[i] = ratio * x[i] + (1 - ratio) * estimate;
        }
        before = denoised;
        return moved;
    }

    /** c_out x_0 + c_skip x, noised again unless it is the last step. */
    private float[] lcm(float[] denoised, double sigma, double next) {
        double scaled = times[done] * LCM_SCALING;
        double square = LCM_SIGMA * LCM_SIGMA;
        float skip = (float) (square / (scaled * scaled + square) / Math.sqrt(sigma * sigma + 1));
        float out = (float) (scaled / Math.sqrt(scaled * scaled + square));
        float[] moved = new float[x.length];
        for (int i = 0; i < x.length; i++) {
            moved[i] = out * denoised[i] + skip * x[i];
        }
        if (done + 1 < steps) {
            float[] more = noise.draw(x.length);
            for (int i = 0; i < x.length; i++) {
                moved[i] += (float) next * more[i];
            }
        }
        return moved;
    }
}
