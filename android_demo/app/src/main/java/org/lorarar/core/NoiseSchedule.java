package org.lorarar.core;

import java.io.File;
import java.util.Map;

/**
 * How a model was trained, and where samplers step: a diffusers scheduler_config.json.
 *
 * <p>All samplers work on x = x_0 + sigma * noise, where sigma^2 = (1 - a) / a and a is the
 * cumulative product of the training schedule's alphas.
 */
public final class NoiseSchedule {
    private static final String[][] SUPPORTED = { // name, then the values; "None" for null
        {"prediction_type", "epsilon", "v_prediction"},
        {"timestep_spacing", "leading", "trailing", "linspace"},
        {"final_sigmas_type", "zero"},
        {"interpolation_type", "linear"},
        {"timestep_type", "discrete"},
        {"trained_betas", "None"},
        {"rescale_betas_zero_snr", "False", "None"},
        {"use_karras_sigmas", "False", "None"},
        {"use_exponential_sigmas", "False", "None"},
        {"use_beta_sigmas", "False", "None"},
        {"use_lu_lambdas", "False", "None"},
        {"use_flow_sigmas", "False", "None"},
    };

    /** Of each training step. */
    final double[] sigmas;
    /** Whether the model's output is v, not the noise. */
    final boolean predictsV;
    final String spacing;
    final int stepsOffset;

    private NoiseSchedule(double[] sigmas, boolean predictsV, String spacing, int stepsOffset) {
        this.sigmas = sigmas;
        this.predictsV = predictsV;
        this.spacing = spacing;
        this.stepsOffset = stepsOffset;
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
        double[] sigmas = sigmas(config);
        Fields fields = new Fields(config);
        String spacing = fields.text("timestep_spacing"); // its default differs among schedulers
        Object offset = config.containsKey("steps_offset") ? config.get("steps_offset") : 0L;
        if (!(offset instanceof Number)) {
            throw new IllegalArgumentException("steps_offset " + offset);
        }
        StringBuilder odd = new StringBuilder();
        for (String[] allowed : SUPPORTED) {
            if (config.containsKey(allowed[0]) && !isOneOf(config.get(allowed[0]), allowed)) {
                odd.append(odd.length() == 0 ? "" : ", ");
                odd.append(allowed[0]).append(' ').append(PythonText.of(config.get(allowed[0])));
            }
        }
        if (odd.length() > 0) {
            throw new LorararException(
                source + ": " + odd + " is not supported; use the torch pipeline");
        }
        boolean predictsV = "v_prediction".equals(config.get("prediction_type"));
        return new NoiseSchedule(sigmas, predictsV, spacing, ((Number) offset).intValue());
    }

    private static boolean isOneOf(Object value, String[] allowed) {
        for (int i = 1; i < allowed.length; i++) {
            if (allowed[i].equals(PythonText.of(value))) {
                return true;
            }
        }
        return false;
    }

    private static double[] sigmas(Map<String, Object> config) {
        Fields fields = new Fields(config);
        double start = fields.number("beta_start");
        double end = fields.number("beta_end");
        long count = fields.whole("num_train_timesteps");
        if (!(0 < start && start <= end && end < 1 && count > 1 && count < 1 << 20)) {
            throw new IllegalArgumentException("ValueError('betas " + PythonText.of(start)
                + " to " + PythonText.of(end) + " in " + count + " steps')");
        }
        String betaSchedule = fields.text("beta_schedule");
        boolean isScaled = betaSchedule.equals("scaled_linear");
        if (!isScaled && !betaSchedule.equals("linear")) {
            throw new IllegalArgumentException("KeyError('" + config.get("beta_schedule") + "')");
        }
        double[] betas = isScaled
            ? spread(Math.sqrt(start), Math.sqrt(end), (int) count)
            : spread(start, end, (int) count);
        double product = 1;
        for (int i = 0; i < betas.length; i++) {
            product *= 1 - (isScaled ? betas[i] * betas[i] : betas[i]);
            betas[i] = Math.sqrt((1 - product) / product);
        }
        return betas;
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

    /**
     * The largest `steps` of `parts` timesteps spread over training's, falling.
     *
     * @throws LorararException if there are fewer timesteps than steps
     */
    double[] timesteps(int steps, int parts) throws LorararException {
        int count = sigmas.length;
        if (steps < 1 || steps >= count) {
            throw new LorararException("steps " + steps + ": must be 1 to " + (count - 1));
        }
        double[] times = new double[steps];
        double[] even = spread(0, count - 1, parts);
        double apart = count + -(double) count / steps - count; // as numpy's arange has it
        for (int i = 0; i < steps; i++) {
            if (spacing.equals("linspace")) {
                times[i] = even[parts - 1 - i];
            } else if (spacing.equals("leading")) {
                times[i] = (parts - 1 - i) * (double) (count / parts) + stepsOffset;
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
}
