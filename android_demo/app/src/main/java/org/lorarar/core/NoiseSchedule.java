package org.lorarar.core;

import java.io.File;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/**
 * How a model was trained to see noise, and where samplers step: an exported folder's
 * scheduler_config.json, in which Python has said every value (lorarar.artefacts.scheduler).
 *
 * <p>All samplers work on x = x_0 + sigma * noise.
 */
public final class NoiseSchedule {
    private static final String[][] CHOICES = { // name, then the values that are drawn with
        {"beta_schedule", "linear", "scaled_linear"},
        {"prediction_type", "epsilon", "v_prediction"},
        {"timestep_spacing", "leading", "trailing", "linspace"},
        {"rescale_betas_zero_snr", "False", "True"},
        {"use_karras_sigmas", "False", "True"},
        {"sigma_schedule", "karras", "exponential"},
        {"algorithm_type", "dpmsolver++", "deis"},
        {"clip_sample", "False"},
        {"disable_corrector", "[]"},
        {"final_sigmas_type", "zero"},
        {"interpolation_type", "linear"},
        {"predict_x0", "True"},
        {"solver_order", "2"},
        {"solver_type", "midpoint", "logrho", "bh1", "bh2"},
        {"thresholding", "False"},
        {"timestep_type", "discrete"},
        {"trained_betas"},
        {"use_beta_sigmas", "False"},
        {"use_dynamic_shifting", "False"},
        {"use_exponential_sigmas", "False"},
        {"use_flow_sigmas", "False"},
        {"use_lu_lambdas", "False"},
        {"variance_type", "fixed_small", "fixed_large"},
    };
    private static final List<String> EDM =
        Arrays.asList("sigma_min", "sigma_max", "sigma_data", "sigma_schedule", "rho");
    private static final List<String> OTHERS = Arrays.asList(
        "num_train_timesteps", "steps_offset", "original_inference_steps", "timestep_scaling",
        "beta_start", "beta_end", "clip_sample_range", "dynamic_thresholding_ratio",
        "euler_at_final", "flow_shift", "lower_order_final", "sample_max_value",
        "set_alpha_to_one", "skip_prk_steps", "time_shift_type");
    private static final double LEAST_SIGNAL = 1.0 / (1 << 24); // diffusers' instead of none
    private static final double RHO = 7;

    /** Of each training step; none where the model knows any sigma, as EDM's do. */
    final double[] sigmas;
    /** Whether the model's output is v, not the noise. */
    final boolean predictsV;
    /** Of the data; 1 but for EDM's models. */
    final double deviation;
    /** In how many steps an LCM was distilled. */
    final int distilled;
    /** What an LCM's timesteps are multiplied by. */
    final double scaling;
    /** That draws as the configuration's class does, or null. */
    final Sampler sampler;
    private final String kind;
    private final Fields config;

    private NoiseSchedule(Fields config) {
        this.config = config;
        kind = PythonText.of(config.map.get("_class_name"));
        sampler = Sampler.ofClass(kind);
        predictsV = config.text("prediction_type").equals("v_prediction");
        if (isEdm(config.map)) {
            sigmas = new double[0];
            checkSigmas();
            deviation = config.number("sigma_data");
            distilled = 0;
            scaling = 0;
        } else {
            sigmas = trainingSigmas();
            deviation = 1;
            distilled = config.small("original_inference_steps");
            scaling = config.number("timestep_scaling");
            checkSteps();
        }
    }

    /** @throws LorararException if a value is missing or not supported */
    public static NoiseSchedule read(File file) throws LorararException {
        try {
            return of(Json.object(Files.text(file)), file);
        } catch (IllegalArgumentException error) {
            throw unknown(file, error);
        }
    }

    static LorararException unknown(File source, IllegalArgumentException error) {
        return new LorararException(source + ": no configuration of a scheduler known here ("
            + error.getMessage() + "); export the model again", error);
    }

    /** @throws IllegalArgumentException if a value is missing or no such value */
    static NoiseSchedule of(Map<String, Object> config, File source) throws LorararException {
        Map<String, Object> said = new LinkedHashMap<>();
        if (!isEdm(config)) { // defaults of all classes
            said.put("num_train_timesteps", 1000L);
            said.put("prediction_type", "epsilon");
            said.put("rescale_betas_zero_snr", false);
            said.put("steps_offset", 0L);
            said.put("use_karras_sigmas", false);
            said.put("original_inference_steps", 50L);
            said.put("timestep_scaling", 10.0);
        }
        StringBuilder odd = new StringBuilder();
        for (Map.Entry<String, Object> each : config.entrySet()) {
            if (each.getValue() != null) {
                said.put(each.getKey(), each.getValue());
            }
        }
        for (Map.Entry<String, Object> each : said.entrySet()) {
            if (!isKnown(each.getKey(), each.getValue(), isEdm(config))) {
                odd.append(odd.length() == 0 ? "" : ", ");
                odd.append(each.getKey()).append(' ').append(PythonText.of(each.getValue()));
            }
        }
        if (odd.length() > 0) {
            throw new LorararException(
                source + ": " + odd + " is not supported; use the torch pipeline");
        }
        return new NoiseSchedule(new Fields(said));
    }

    private static boolean isEdm(Map<String, Object> config) {
        return PythonText.of(config.get("_class_name")).startsWith("EDM");
    }

    private static boolean isKnown(String name, Object value, boolean isEdm) {
        for (String[] allowed : CHOICES) {
            if (allowed[0].equals(name)) {
                return Arrays.asList(allowed).indexOf(PythonText.of(value)) > 0;
            }
        }
        return name.startsWith("_") || value.equals(false) || OTHERS.contains(name)
            || isEdm && EDM.contains(name);
    }

    private double[] trainingSigmas() {
        double start = config.number("beta_start");
        double end = config.number("beta_end");
        boolean isScaled = config.text("beta_schedule").equals("scaled_linear");
        config.text("timestep_spacing");
        long count = config.whole("num_train_timesteps");
        if (!(0 < start && start <= end && end < 1 && count > 1 && count <= 1_000_000)) {
            throw new IllegalArgumentException("ValueError('betas " + PythonText.of(start)
                + " to " + PythonText.of(end) + " in " + count + " steps')");
        }
        double[] betas = isScaled
            ? spread(Math.sqrt(start), Math.sqrt(end), (int) count)
            : spread(start, end, (int) count);
        double product = 1;
        for (int i = 0; i < betas.length; i++) {
            product *= 1 - (isScaled ? betas[i] * betas[i] : betas[i]);
            betas[i] = product;
        }
        if (config.flag("rescale_betas_zero_snr")) {
            rescale(betas);
        }
        for (int i = 0; i < betas.length; i++) {
            betas[i] = Math.sqrt((1 - betas[i]) / betas[i]);
        }
        return betas;
    }

    /** Take all signal out of the last of products (Lin et al. 2305.08891, algorithm 1). */
    private static void rescale(double[] products) {
        int last = products.length - 1;
        double first = Math.sqrt(products[0]);
        double least = Math.sqrt(products[last]);
        for (int i = 0; i < last; i++) {
            double root = (Math.sqrt(products[i]) - least) * first / (first - least);
            products[i] = root * root;
        }
        products[last] = LEAST_SIGNAL;
    }

    private void checkSteps() {
        double offset = config.number("steps_offset");
        if (!(0 <= offset && offset < sigmas.length && distilled > 0 && 0 < scaling
                && !Double.isInfinite(scaling))) {
            throw new IllegalArgumentException("ValueError('steps_offset "
                + PythonText.of(config.get("steps_offset")) + ", original_inference_steps "
                + distilled + ", timestep_scaling " + PythonText.of(scaling) + "')");
        }
    }

    private void checkSigmas() {
        double low = config.number("sigma_min");
        double high = config.number("sigma_max");
        double data = config.number("sigma_data");
        double rho = config.number("rho");
        if (!(0 < low && low < high && 0 < data && 0 < rho)) {
            throw new IllegalArgumentException("ValueError('sigmas " + PythonText.of(low) + " to "
                + PythonText.of(high) + ", sigma_data " + PythonText.of(data) + ", rho "
                + PythonText.of(rho) + "')");
        }
    }

    /** @throws LorararException if no sampler is given and none here draws as the model's own */
    Sampler settled(Sampler given) throws LorararException {
        if (given == null && sampler == null) {
            throw new LorararException(
                kind + " is no sampler here; give the model another scheduler and export it again");
        }
        return given == null ? sampler : given;
    }

    /**
     * Where Euler steps, or DPM-Solver++ with its whole timesteps.
     *
     * @param curved whether Karras' levels are followed where the configuration has them
     * @throws LorararException if there are fewer timesteps than steps
     */
    Levels levels(int steps, boolean whole, boolean curved) throws LorararException {
        if (sigmas.length == 0) {
            return edmLevels(steps);
        }
        String spacing = config.text("timestep_spacing");
        double[] times = timesteps(steps, steps + (whole && !spacing.equals("trailing") ? 1 : 0));
        if (whole) {
            round(times);
        }
        double[] found = new double[steps + 1];
        for (int i = 0; i < steps; i++) {
            found[i] = sigmaAt(times[i]);
        }
        if (curved && config.flag("use_karras_sigmas")) {
            found = whole ? karras(sigmas[sigmas.length - 1], sigmas[0], steps, RHO)
                : karras(found[0], found[steps - 1], steps, RHO);
            for (int i = 0; i < steps; i++) {
                times[i] = timeAt(found[i]);
            }
            if (whole) {
                round(times);
            }
        }
        boolean isUnit = whole || spacing.equals("leading");
        return new Levels(
            times, found, isUnit ? Math.sqrt(found[0] * found[0] + 1) : found[0]);
    }

    private Levels edmLevels(int steps) throws LorararException {
        if (steps < 1) {
            throw new LorararException("steps " + steps + ": must be 1 or more");
        }
        double high = config.number("sigma_max");
        double low = config.number("sigma_min");
        double[] found = config.text("sigma_schedule").equals("karras")
            ? karras(high, low, steps, config.number("rho")) : exponential(high, low, steps);
        double[] times = new double[steps];
        for (int i = 0; i < steps; i++) {
            times[i] = Math.log(found[i]) / 4;
        }
        return new Levels(times, found, Math.sqrt(high * high + 1));
    }

    /** Noise levels from high to low (Karras et al. 2206.00364, equation 5), then 0. */
    private static double[] karras(double high, double low, int steps, double rho) {
        double[] levels = spread(Math.pow(high, 1 / rho), Math.pow(low, 1 / rho), steps);
        for (int i = 0; i < steps; i++) {
            levels[i] = Math.pow(levels[i], rho);
        }
        return Arrays.copyOf(levels, steps + 1);
    }

    private static double[] exponential(double high, double low, int steps) {
        double[] rising = spread(Math.log(low), Math.log(high), steps);
        double[] levels = new double[steps + 1];
        for (int i = 0; i < steps; i++) {
            levels[i] = Math.exp(rising[steps - 1 - i]);
        }
        return levels;
    }

    private static void round(double[] times) {
        for (int i = 0; i < times.length; i++) {
            times[i] = Math.rint(times[i]);
        }
    }

    /** Sigma at a timestep, which may lie between those of training. */
    double sigmaAt(double time) {
        int last = sigmas.length - 1;
        if (time <= 0 || time >= last) {
            return sigmas[time <= 0 ? 0 : last];
        }
        int below = (int) time;
        return (sigmas[below + 1] - sigmas[below]) * (time - below) + sigmas[below];
    }

    /** The timestep of a sigma, which may lie between those of training, as log sigma does. */
    private double timeAt(double sigma) {
        int above = Arrays.binarySearch(sigmas, sigma);
        if (above >= 0) {
            return above;
        }
        above = -above - 1;
        if (above == 0 || above == sigmas.length) {
            return above == 0 ? 0 : above - 1;
        }
        double low = Math.log(sigmas[above - 1]);
        return above - 1 + (Math.log(sigma) - low) / (Math.log(sigmas[above]) - low);
    }

    private double[] timesteps(int steps, int parts) throws LorararException {
        int count = sigmas.length;
        if (steps < 1 || steps >= count) {
            throw new LorararException("steps " + steps + ": must be 1 to " + (count - 1));
        }
        String spacing = config.text("timestep_spacing");
        double offset = config.number("steps_offset");
        double[] times = new double[steps];
        double[] even = spread(0, count - 1, parts);
        double apart = count + -(double) count / steps - count; // as numpy's arange has it
        for (int i = 0; i < steps; i++) {
            if (spacing.equals("linspace")) {
                times[i] = even[parts - 1 - i];
            } else if (spacing.equals("leading")) {
                times[i] = (parts - 1 - i) * (double) (count / parts) + offset;
            } else {
                times[i] = Math.rint(count + i * apart) - 1;
            }
        }
        return times;
    }

    /** numpy's linspace. */
    private static double[] spread(double start, double end, int count) {
        double[] values = new double[count];
        double step = (end - start) / Math.max(1, count - 1);
        for (int i = 0; i < count; i++) {
            values[i] = i * step + start;
        }
        if (count > 1) {
            values[count - 1] = end;
        }
        return values;
    }

    /** Where a sampler steps. */
    static final class Levels {
        /** As the model knows them. */
        final double[] times;
        /** One more than times, the last 0. */
        final double[] sigmas;
        /** What unit noise is multiplied by to begin with. */
        final double start;

        Levels(double[] times, double[] sigmas, double start) {
            this.times = times;
            this.sigmas = sigmas;
            this.start = start;
        }
    }
}
