package org.lorarar.core;

import java.util.ArrayList;
import java.util.Collections;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.regex.Pattern;

/**
 * What Python knows of bases and of names: every base's layers, and the spellings of each.
 *
 * <p>The asset names.json, which android_demo/make/names.py writes from lorarar's own tables.
 */
public final class LayerNames {
    final Naming naming;
    /** In Python's order, which decides where several fit. */
    final List<Base> bases = new ArrayList<>();
    /** Parts of a layer that make it more than a plain LoRA, and of which kind. */
    final Map<String, String> convertible = new HashMap<>();
    /** Forms of names of tensors that change a layer otherwise, and the kind they make of it. */
    final Map<Pattern, String> refused = new LinkedHashMap<>();

    /** Layers per block -> spelling, without wrappers -> canonical layers. */
    private final TreeMap<Integer, Map<String, List<String>>> spellings = new TreeMap<>();

    private LayerNames(Map<String, Object> asset) {
        naming = new Naming((Map<?, ?>) asset.get("naming"));
        for (Map.Entry<?, ?> kind : ((Map<?, ?>) asset.get("convertible")).entrySet()) {
            for (Object part : (List<?>) kind.getValue()) {
                convertible.put((String) part, (String) kind.getKey());
            }
        }
        for (Map.Entry<?, ?> form : ((Map<?, ?>) asset.get("refused")).entrySet()) {
            refused.put(Naming.compiled((String) form.getKey()), (String) form.getValue());
        }
        List<?> layers = (List<?>) asset.get("layers");
        readBases((Map<?, ?>) asset.get("bases"), layers, shapes((List<?>) asset.get("shapes")));
        for (Map.Entry<?, ?> numbered : ((Map<?, ?>) asset.get("spellings")).entrySet()) {
            Map<String, List<String>> meanings = new HashMap<>();
            for (Map.Entry<?, ?> one : ((Map<?, ?>) numbered.getValue()).entrySet()) {
                meanings.put((String) one.getKey(), named((List<?>) one.getValue(), layers));
            }
            spellings.put(Integer.valueOf((String) numbered.getKey()), meanings);
        }
    }

    /** @throws IllegalArgumentException if this is no names.json */
    public static LayerNames parse(String json) {
        return new LayerNames(Json.object(json));
    }

    private void readBases(Map<?, ?> given, List<?> layers, List<long[]> shapes) {
        for (Map.Entry<?, ?> base : given.entrySet()) {
            Map<?, ?> about = (Map<?, ?>) base.getValue();
            List<?> indices = (List<?>) about.get("layers"); // layer, shape, layer, shape, ...
            Map<String, long[]> known = new LinkedHashMap<>();
            for (int i = 0; i < indices.size(); i += 2) {
                known.put((String) layers.get(whole(indices.get(i))),
                    shapes.get(whole(indices.get(i + 1))));
            }
            int layersPerBlock = whole(about.get("layers_per_block"));
            bases.add(new Base((String) base.getKey(), layersPerBlock, known));
        }
    }

    private static List<long[]> shapes(List<?> given) {
        List<long[]> shapes = new ArrayList<>();
        for (Object each : given) {
            List<?> axes = (List<?>) each;
            long[] shape = new long[axes.size()];
            for (int i = 0; i < shape.length; i++) {
                shape[i] = (Long) axes.get(i);
            }
            shapes.add(shape);
        }
        return shapes;
    }

    private static List<String> named(List<?> indices, List<?> layers) {
        List<String> names = new ArrayList<>(indices.size());
        for (Object index : indices) {
            names.add((String) layers.get(whole(index)));
        }
        return names;
    }

    private static int whole(Object number) {
        return ((Long) number).intValue();
    }

    /** Canonical layers that can be meant; those of both text encoders differ in width alone. */
    List<String> meanings(Naming.Spelling spelling, int layersPerBlock) {
        List<String> layers = spellings.get(layersPerBlock).get(spelling.name);
        if (layers == null) {
            return Collections.emptyList();
        }
        List<String> meant = new ArrayList<>();
        for (String layer : layers) {
            if (spelling.component == null || layer.startsWith(spelling.component + ".")) {
                meant.add(layer);
            }
        }
        return meant;
    }

    /** The layers of any base that a file's name for one can mean. */
    List<String> meaningsInAnyBase(String name) {
        Naming.Spelling spelling = naming.spelling(name);
        LinkedHashSet<String> layers = new LinkedHashSet<>();
        for (int layersPerBlock : spellings.keySet()) {
            layers.addAll(meanings(spelling, layersPerBlock));
        }
        return new ArrayList<>(layers);
    }

    /**
     * The bases that layers, with their shapes as matrices, can be for, in Python's order.
     *
     * <p>Where they are all that some bases' UNets have of their kinds, these bases alone.
     */
    List<String> basesWith(Map<String, MatrixShape> layers) {
        List<String> fitting = new ArrayList<>();
        List<String> covered = new ArrayList<>();
        for (Base base : bases) {
            boolean fits = true;
            for (Map.Entry<String, MatrixShape> layer : layers.entrySet()) {
                fits &= base.has(layer.getKey(), layer.getValue());
            }
            if (fits) {
                fitting.add(base.name);
                if (base.isCoveredBy(layers.keySet())) {
                    covered.add(base.name);
                }
            }
        }
        return covered.isEmpty() ? fitting : covered;
    }

    /** The bases' names, in Python's order. */
    String baseNames() {
        StringBuilder names = new StringBuilder();
        for (Base base : bases) {
            names.append(names.length() == 0 ? "" : ", ").append(base.name);
        }
        return names.toString();
    }
}
