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
        NoiseSchedule.Levels levels = levels(sampler, schedule, steps);
        times = levels.times;
        sigmas = levels.sigmas;
        noise = new Noise(seed);
        x = noise.draw(size);
        float start = (float) levels.start;
        for (int i = 0; i < size; i++) {
            x[i] *= start;
        }
    }

    private static NoiseSchedule.Levels levels(
            Sampler sampler, NoiseSchedule schedule, int steps) throws LorararException {
        switch (sampler) {
            case EULER:
                return schedule.levels(steps, false, true);
            case EULER_ANCESTRAL:
                return schedule.levels(steps, false, false);
            case DPM_2M:
                return schedule.levels(steps, true, true);
            default:
                return lcmLevels(schedule, steps);
        }
    }

    /** The spacing is always that of LCM's training. */
    private static NoiseSchedule.Levels lcmLevels(NoiseSchedule schedule, int steps)
            throws LorararException {
        int count = schedule.sigmas.length;
        if (count == 0) {
            throw new LorararException(
                "sampler 'lcm': the model is no LCM, but EDM's; use euler or dpm++2m");
        }
        int limit = Math.min(schedule.distilled, count);
        if (steps < 1 || steps > limit) {
            throw new LorararException("steps " + steps + ": lcm takes 1 to " + limit);
        }
        double[] times = new double[steps];
        double[] sigmas = new double[steps + 1];
        for (int i = 0; i < steps; i++) {
            int index = (int) (i * ((double) limit / steps));
            times[i] = (limit - index) * (count / limit) - 1;
            sigmas[i] = schedule.sigmaAt(times[i]);
        }
        return new NoiseSchedule.Levels(times, sigmas, Math.sqrt(sigmas[0] * sigmas[0] + 1));
    }

    /** Set the state to what it was between two steps; noise drawn until then is drawn again. */
    void goOn(float[] latents, float[] denoisedBefore, int stepsDone) {
        x = latents;
        before = denoisedBefore;
        done = stepsDone;
        boolean isNoised = sampler == Sampler.LCM || sampler == Sampler.EULER_ANCESTRAL;
        for (int i = 0; isNoised && i < done; i++) {
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
            case EULER_ANCESTRAL:
                x = eulerAncestral(denoised, sigma, next);
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
        double data = schedule.deviation;
        float scale = (float) Math.sqrt(sigma * sigma + data * data);
        float[] scaled = new float[x.length];
        for (int i = 0; i < x.length; i++) {
            scaled[i] = x[i] / scale;
        }
        float[] result = model.run(scaled, time);
        float factor = (float) sigma;
        boolean isPlain = !schedule.predictsV && schedule.sigmas.length > 0;
        float skip = (float) (data * data) / (scale * scale);
        float out = (float) (schedule.predictsV ? -sigma * data : sigma * data) / scale;
        for (int i = 0; i < x.length; i++) {
            result[i] = isPlain ? x[i] - factor * result[i] : skip * x[i] + out * result[i];
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

    /** To less noise than asked for, and fresh noise for the rest. */
    private float[] eulerAncestral(float[] denoised, double sigma, double next) {
        double lower = next * next / sigma;
        float[] moved = euler(denoised, sigma, lower);
        return next == 0 ? moved : noised(moved, Math.sqrt(next * next - lower * lower));
    }

    private float[] noised(float[] latents, double sigma) {
        float factor = (float) sigma;
        float[] more = noise.draw(latents.length);
        for (int i = 0; i < latents.length; i++) {
            latents[i] += factor * more[i];
        }
        return latents;
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
        double scaled = times[done] * schedule.scaling;
        double square = LCM_SIGMA * LCM_SIGMA;
        float skip = (float) (square / (scaled * scaled + square) / Math.sqrt(sigma * sigma + 1));
        float out = (float) (scaled / Math.sqrt(scaled * scaled + square));
        float[] moved = new float[x.length];
        for (int i = 0; i < x.length; i++) {
            moved[i] = out * denoised[i] + skip * x[i];
        }
        return done + 1 < steps ? noised(moved, next) : moved;
    }
}
