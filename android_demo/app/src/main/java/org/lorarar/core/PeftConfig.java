package org.lorarar.core;

import java.util.LinkedHashMap;
import java.util.Locale;
import java.util.Map;
import java.util.regex.Pattern;
import java.util.regex.PatternSyntaxException;

/**
 * PEFT's configuration of an adapter: what it says of scales, and which kinds are refused.
 *
 * <p>The twin of lorarar/formats/peft_config.py.
 */
final class PeftConfig {
    private static final String[] CHANGES_BASE = // starts that change base weights
        {"pissa", "olora", "corda", "loftq", "lora_ga"};
    private static final long USUAL = 8; // PEFT's alpha and rank, where nothing is said
    private static final Pattern NAME = Pattern.compile("[\\p{L}\\p{N}_.]+");
    /** Other patterns are expressions of a file's author: only those are tried that end soon. */
    private static final Pattern HARMLESS = Pattern.compile(
        "(?!(?:[^*+]*[*+]){3})(?!.*\\)[*+?])(?!.*\\\\\\d)"
        + "[\\p{L}\\p{N}_.\\^\\$\\\\|()*+?:\\[\\]-]{1,500}");
    /** What Java understands otherwise than Python, or Python not at all. */
    private static final Pattern OTHERWISE = Pattern.compile(
        "\\\\(?![AbBdDsSwWZ]|[^A-Za-z0-9])|\\(\\?(?!:)|\\[\\^?\\]|\\[[^\\]]*\\[|[*+?][*+]|[|^]\\*");
    private static final int MOST_EXPRESSIONS = 100;

    final boolean isDora;
    private final double alpha;
    /** Whether alpha is divided by the rank's square root (rsLoRA). */
    private final boolean byRoot;
    /** A pattern's form -> alpha, in the file's order, of which the first that fits counts. */
    private final Map<Pattern, Double> patterns = new LinkedHashMap<>();

    private PeftConfig(Map<?, ?> options, String source) throws LorararException {
        Object kind = PythonText.isTrue(options.get("peft_type"))
            ? options.get("peft_type") : "LORA";
        boolean isLora = kind.equals("LORA");
        if (!isLora && !kind.equals("LOHA") && !kind.equals("LOKR")) {
            throw new LorararException(source + ": this is a " + PythonText.of(kind, 80)
                + "; only plain LoRAs can be merged");
        }
        refuseChangedBase(options.get("init_lora_weights"), source);
        Map<?, ?> alphas = alphaPatterns(options.get("alpha_pattern"), source);
        Map<String, Double> given = new LinkedHashMap<>();
        for (Map.Entry<?, ?> each : alphas.entrySet()) {
            String pattern = (String) each.getKey();
            String what = "alpha of '" + PythonText.of(pattern, 80) + "'";
            given.put(pattern, number(each.getValue(), what, source));
        }
        alpha = number(or(options, isLora ? "lora_alpha" : "alpha"), "alpha", source);
        number(or(options, "r"), "r", source);
        byRoot = PythonText.isTrue(options.get("use_rslora"));
        isDora = PythonText.isTrue(options.get("use_dora"));
        compile(given, source);
    }

    /**
     * Check adapter_config.json, or what diffusers keeps of it.
     *
     * @throws LorararException if it is malformed, or about something else than a LoRA, LoHa or
     *     LoKr of unchanged base weights
     */
    static PeftConfig read(Object options, String source) throws LorararException {
        if (!(options instanceof Map)) {
            throw new LorararException(source + " is no JSON object; get the adapter again");
        }
        return new PeftConfig((Map<?, ?>) options, source);
    }

    private static void refuseChangedBase(Object start, String source) throws LorararException {
        for (String changing : CHANGES_BASE) {
            if (start instanceof String
                    && ((String) start).toLowerCase(Locale.ROOT).startsWith(changing)) {
                throw new LorararException(source + ": its start '" + PythonText.of(start, 80)
                    + "' changed the base model's weights, so it fits no other; save it with "
                    + "PEFT's path_initial_model_for_weight_conversion");
            }
        }
    }

    private static Map<?, ?> alphaPatterns(Object given, String source) throws LorararException {
        if (!PythonText.isTrue(given)) {
            return new LinkedHashMap<>();
        }
        if (!(given instanceof Map)) {
            throw new LorararException(
                source + " has no usable alpha_pattern; get the adapter again");
        }
        return (Map<?, ?>) given;
    }

    private static Object or(Map<?, ?> options, String option) {
        return options.containsKey(option) ? options.get(option) : Long.valueOf(USUAL);
    }

    private static double number(Object value, String option, String source)
            throws LorararException {
        double number = value instanceof Number ? ((Number) value).doubleValue() : Double.NaN;
        if (value instanceof Boolean) { // in Python a number, too
            number = (Boolean) value ? 1 : 0;
        }
        if (!(Math.abs(number) < 1e30)) {
            throw new LorararException(source + " has no usable " + option + ": "
                + PythonText.of(value, 80) + "; get it again");
        }
        return number;
    }

    private void compile(Map<String, Double> given, String source) throws LorararException {
        int expressions = 0;
        boolean isWild = false;
        for (Map.Entry<String, Double> each : given.entrySet()) {
            String form = each.getKey();
            if (NAME.matcher(form).matches()) { // the end of a layer's name, at one of its dots
                form = Pattern.quote(form);
            } else {
                expressions++;
                isWild |= !HARMLESS.matcher(form).matches() || OTHERWISE.matcher(form).find();
            }
            try {
                if (!isWild) {
                    patterns.put(
                        Pattern.compile("(?:.*\\.)?(?:" + form + ")$"), each.getValue());
                }
            } catch (PatternSyntaxException error) {
                isWild = true;
            }
        }
        if (isWild || expressions > MOST_EXPRESSIONS) {
            throw new LorararException(
                source + ": its alpha_pattern has expressions too wild to try");
        }
    }

    /**
     * alpha / rank of a layer, or alpha / sqrt(rank).
     *
     * @param module its name without the component, whose end the first fitting pattern matches,
     *     as in PEFT
     */
    double scale(String module, int rank) {
        double fitting = alpha;
        for (Map.Entry<Pattern, Double> each : patterns.entrySet()) {
            if (each.getKey().matcher(module).lookingAt()) {
                fitting = each.getValue();
                break;
            }
        }
        return fitting / (byRoot ? Math.sqrt(rank) : rank);
    }
}
