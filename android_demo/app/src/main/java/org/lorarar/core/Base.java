package org.lorarar.core;

import java.util.Collection;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.Set;

/** An SDXL-class base model: every Linear and Conv2d, by canonical name, with its shape. */
final class Base {
    final String name;
    /** How many layers its blocks have, by which sgm's names number them. */
    final int layersPerBlock;
    /** (out, in), and (out, in, height, width) of convolutions. */
    final Map<String, long[]> shapes;
    private final Map<String, String> kinds = new LinkedHashMap<>();

    Base(String name, int layersPerBlock, Map<String, long[]> shapes) {
        this.name = name;
        this.layersPerBlock = layersPerBlock;
        this.shapes = shapes;
        for (String layer : shapes.keySet()) {
            if (layer.startsWith("unet.")) {
                kinds.put(layer, kind(layer));
            }
        }
    }

    /** Whether it has a layer whose weight, as a matrix, is of this shape. */
    boolean has(String layer, MatrixShape shape) {
        long[] known = shapes.get(layer);
        return known != null && MatrixShape.of(known).equals(shape);
    }

    /** Whether these layers of the UNet are all that the base has of their kinds. */
    boolean isCoveredBy(Collection<String> layers) {
        Set<String> given = new HashSet<>();
        Set<String> kindsGiven = new HashSet<>();
        for (String layer : layers) {
            if (layer.startsWith("unet.")) {
                given.add(layer);
                kindsGiven.add(kinds.get(layer));
            }
        }
        Set<String> all = new HashSet<>();
        for (Map.Entry<String, String> entry : kinds.entrySet()) {
            if (kindsGiven.contains(entry.getValue())) {
                all.add(entry.getKey());
            }
        }
        return given.equals(all);
    }

    /** What a layer does, wherever it is: the end of its name, as in attn1.to_q. */
    private static String kind(String layer) {
        String last = "";
        String beforeIt = "";
        for (String part : layer.split("\\.")) {
            if (!part.matches("[0-9]+")) {
                beforeIt = last;
                last = part;
            }
        }
        return beforeIt + "." + last;
    }
}
