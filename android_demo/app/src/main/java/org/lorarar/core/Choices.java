package org.lorarar.core;

import java.nio.charset.StandardCharsets;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.Objects;

/**
 * What a person has chosen to draw.
 *
 * <p>Ranges are those of lorarar's page: strengths 0 to 2, steps 1 to 100, seeds 0 to 2^32 - 1.
 */
public final class Choices {
    public static final int MOST_STEPS = 100;
    public static final long MOST_SEED = (1L << 32) - 1;
    public static final float MOST_SCALE = 2;
    public static final int LONGEST_PROMPT = 2000;

    /** A LoRA's id, or null for none. */
    public String content;
    /** A LoRA's id, or null for none. */
    public String style;
    public float contentScale = 1;
    public float styleScale = 1;
    public String prompt = "";
    /** What the chosen LoRAs suggested last; a prompt that equals it follows the choice. */
    public String suggestion = "";
    public int steps = 20;
    public long seed;
    /** A model's id, or null for the embedded one. */
    public String model;

    public Choices copy() {
        Choices copy = new Choices();
        copy.content = content;
        copy.style = style;
        copy.contentScale = contentScale;
        copy.styleScale = styleScale;
        copy.prompt = prompt;
        copy.suggestion = suggestion;
        copy.steps = steps;
        copy.seed = seed;
        copy.model = model;
        return copy;
    }

    /** Whether the same LoRAs draw, at the same strengths, in the same model. */
    public boolean mergesAs(Choices other) {
        return Objects.equals(content, other.content) && Objects.equals(style, other.style)
                && Objects.equals(model, other.model) && contentScale == other.contentScale && styleScale == other.styleScale;
    }

    /** Suggest a prompt, "a votol cup" and "in ink style"; one that was typed stays. */
    public void suggest(String contentWords, String styleWords) {
        String words = (contentWords + " " + styleWords).trim();
        if (prompt.isEmpty() || prompt.equals(suggestion)) {
            prompt = words;
        }
        suggestion = words;
    }

    public byte[] json() {
        Map<String, Object> map = new LinkedHashMap<>();
        map.put("content", content);
        map.put("style", style);
        map.put("content_scale", (double) contentScale);
        map.put("style_scale", (double) styleScale);
        map.put("prompt", prompt);
        map.put("suggestion", suggestion);
        map.put("steps", (long) steps);
        map.put("seed", seed);
        map.put("model", model);
        return Json.write(map).getBytes(StandardCharsets.UTF_8);
    }

    /** @throws LorararException if a field is missing, of another type or out of its range */
    public static Choices read(byte[] json) throws LorararException {
        Choices choices = new Choices();
        try {
            Map<String, Object> map = Json.object(new String(json, StandardCharsets.UTF_8));
            choices.content = (String) map.get("content");
            choices.style = (String) map.get("style");
            choices.contentScale = (float) number(map, "content_scale", 0, MOST_SCALE);
            choices.styleScale = (float) number(map, "style_scale", 0, MOST_SCALE);
            choices.prompt = text(map, "prompt");
            choices.suggestion = text(map, "suggestion");
            choices.steps = (int) number(map, "steps", 1, MOST_STEPS);
            choices.seed = (long) number(map, "seed", 0, MOST_SEED);
            choices.model = (String) map.get("model");
        } catch (IllegalArgumentException | ClassCastException error) {
            throw new LorararException("the choices are damaged (" + error.getMessage() + ")");
        }
        return choices;
    }

    private static double number(Map<String, Object> map, String name, double least, double most) {
        Object value = map.get(name);
        if (!(value instanceof Number)
                || !(((Number) value).doubleValue() >= least)
                || !(((Number) value).doubleValue() <= most)) {
            throw new IllegalArgumentException(
                    name + " must be from " + (long) least + " to " + (long) most);
        }
        return ((Number) value).doubleValue();
    }

    private static String text(Map<String, Object> map, String name) {
        Object value = map.get(name);
        if (!(value instanceof String)) {
            throw new IllegalArgumentException(name + " is missing");
        }
        return (String) value;
    }
}
