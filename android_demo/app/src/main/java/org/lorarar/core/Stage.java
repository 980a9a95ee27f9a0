package org.lorarar.core;

import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/** One program of an exported pipeline. */
final class Stage {
    final String file;
    /** Input name -> shape, -1 where dynamic, in the program's order. */
    final Map<String, long[]> inputs = new LinkedHashMap<>();
    final List<String> outputs;
    /** Those whose factors follow, down then up for each -> (out, in) of their weights. */
    final Map<String, int[]> projections = new LinkedHashMap<>();

    /** @throws IllegalArgumentException if the fields of a manifest are no stage */
    Stage(Fields fields) {
        file = PipelineManifest.inside(fields.text("file"));
        outputs = fields.texts("outputs");
        Fields given = fields.object("inputs");
        for (String name : given.map.keySet()) {
            List<Object> dtypeAndShape = given.list(name);
            if (dtypeAndShape.size() != 2) {
                throw new IllegalArgumentException("input '" + name + "'");
            }
            List<Object> shape = Fields.list(dtypeAndShape.get(1), name);
            long[] axes = new long[shape.size()];
            for (int i = 0; i < axes.length; i++) {
                Object axis = shape.get(i);
                axes[i] = axis == null ? -1 : Fields.as(Long.class, axis, name);
            }
            inputs.put(name, axes);
        }
        Fields layers = fields.object("layers");
        for (String name : layers.map.keySet()) {
            List<Object> shape = layers.list(name);
            if (shape.size() != 2) {
                throw new IllegalArgumentException("layer '" + name + "'");
            }
            projections.put(name, new int[] {
                Fields.as(Long.class, shape.get(0), name).intValue(),
                Fields.as(Long.class, shape.get(1), name).intValue(),
            });
        }
    }
}
