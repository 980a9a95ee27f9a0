package org.lorarar.core;

import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;

/** One LoRA's share in what is added to a layer: scale * up @ (down * m). */
final class Share {
    final Lora lora;
    final Layer layer;
    private final float[] m; // of down's columns, or null for 1
    private final Dtype dtype; // that the factors are rounded to
    private final float upScale;
    private final float downScale;

    private Share(Lora lora, Layer layer, float[] m, double scale, Dtype dtype) {
        this.lora = lora;
        this.layer = layer;
        this.m = m;
        this.dtype = dtype;
        double exponent = exponent(scale);
        upScale = (float) (scale / Math.pow(2, exponent));
        downScale = (float) Math.pow(2, exponent);
    }

    /**
     * How much of the scale goes to down, so that both factors keep their digits in float16:
     * 1 / 128 all on up would leave many of its entries without.
     */
    private double exponent(double scale) {
        if (dtype != Dtype.F16 || scale == 0 || scale == 1) {
            return 0;
        }
        float up = largest(layer.up.values());
        float down = largest(layer.down.values());
        boolean canBe = 0 < up && up < Float.POSITIVE_INFINITY
            && 0 < down && down < Float.POSITIVE_INFINITY;
        return canBe ? Math.rint(Math.log(up * Math.abs(scale) / down) / Math.log(2) / 2) : 0;
    }

    private static float largest(float[] values) {
        float largest = 0;
        for (float value : values) {
            largest = Math.max(largest, Math.abs(value)); // NaN if one is
        }
        return largest;
    }

    /** A LoRA that draws alone: layer -> its one share. */
    static Map<String, List<Share>> alone(Lora lora) {
        Map<String, List<Share>> shares = new LinkedHashMap<>();
        for (Map.Entry<String, Layer> entry : lora.layers.entrySet()) {
            Layer layer = entry.getValue();
            List<Share> one = new ArrayList<>();
            one.add(new Share(lora, layer, null, layer.scale, Dtype.F32));
            shares.put(entry.getKey(), one);
        }
        return shares;
    }

    /**
     * The exact merge, in the content LoRA's dtype, the twin of lorarar.merge.weighted_sum.
     *
     * <p>dW = content_scale * dW_c * m_c + style_scale * dW_s * m_s, columns scaled through down;
     * layers without coefficients keep m = 1, 1.
     *
     * @throws LorararException if the LoRAs' shapes differ
     */
    static Map<String, List<Share>> merged(
            Lora[] pair, Map<String, float[][]> coefficients, float[] scales)
            throws LorararException {
        Map<String, List<Share>> shares = new LinkedHashMap<>();
        for (String name : names(pair)) {
            checkPair(name, pair[0], pair[1]);
            List<Share> both = new ArrayList<>();
            for (int side = 0; side < 2; side++) {
                Layer layer = pair[side].layers.get(name);
                if (layer != null) {
                    float[][] m = coefficients.get(name);
                    Dtype dtype = both.isEmpty() ? layer.up.dtype : both.get(0).dtype;
                    double scale = layer.scale * (double) scales[side];
                    both.add(new Share(
                        pair[side], layer, m == null ? null : m[side], scale, dtype));
                }
            }
            shares.put(name, both);
        }
        return shares;
    }

    /** The layers of either, the content LoRA's first. */
    static Set<String> names(Lora... pair) {
        Set<String> names = new LinkedHashSet<>();
        for (Lora lora : pair) {
            names.addAll(lora.layers.keySet());
        }
        return names;
    }

    /** @throws LorararException if both have the layer, in different shapes */
    static void checkPair(String name, Lora content, Lora style) throws LorararException {
        Layer one = content.layers.get(name);
        Layer other = style.layers.get(name);
        if (one == null || other == null) {
            return;
        }
        if (one.out() != other.out() || one.down.columns != other.down.columns) {
            throw new LorararException(style.source + ": layer '" + name + "' is " + other.out()
                + "x" + other.in() + ", but " + content.source + " has " + one.out() + "x"
                + one.in() + "; these LoRAs are for different base models");
        }
    }

    int rank() {
        return layer.rank();
    }

    /** up (out, rank), its scale in it. */
    float[] up() {
        float[] up = layer.up.values();
        for (int i = 0; i < up.length; i++) {
            up[i] *= upScale;
        }
        Weights.round(up, dtype);
        return up;
    }

    /** down (rank, in), scale and coefficients in it. */
    float[] down() {
        float[] down = layer.down.values();
        int columns = layer.down.columns;
        for (int i = 0; i < down.length; i++) {
            down[i] *= m == null ? 1 : m[i % columns];
            down[i] *= downScale;
        }
        Weights.round(down, dtype);
        return down;
    }

    /** In numpy's words. */
    String dtype() {
        return dtype.numpy;
    }
}
