package org.lorarar.core;

import java.util.LinkedHashMap;
import java.util.Map;

/**
 * The features of one LoRA in one role ("content" or "style"), for one hypernetwork.
 *
 * <p>As lorarar prepare writes them: lorarar/prepare.py.
 */
public final class Prepared {
    static final String KEY = "lorarar.prepared";
    static final String FEATURES = ".features";
    static final String SCALES = ".feature_scales";

    public final String role;
    /** "small": yet to be multiplied by down; or "full-fp32", "full-fp16", "full-int8". */
    public final String level;
    /** The hypernetwork's. */
    public final String fingerprint;
    /** Of the features as kept, against float32, relative in Frobenius norm over all layers. */
    public final double error;
    public final Map<String, Feature> features;

    private Prepared(Map<String, Object> about, Map<String, Feature> features) {
        role = (String) about.get("role");
        level = (String) about.get("level");
        fingerprint = (String) about.get("fingerprint");
        error = (Double) about.get("error");
        this.features = features;
    }

    /** Read what a file has of it, null if nothing. */
    static Prepared read(LoraSource source, Map<String, Layer> layers) throws LorararException {
        if (!source.file.metadata.containsKey(KEY)) {
            return null;
        }
        Map<String, Object> about = source.jsonObject(KEY);
        Map<String, Feature> features = new LinkedHashMap<>();
        boolean fits = about.size() == 4 && about.get("role") instanceof String
            && about.get("level") instanceof String && about.get("fingerprint") instanceof String
            && about.get("error") instanceof Double;
        for (Map.Entry<String, Safetensors.Entry> each : source.file.tensors.entrySet()) {
            String tensor = each.getKey();
            if (fits && tensor.endsWith(FEATURES)) {
                String name = tensor.substring(0, tensor.length() - FEATURES.length());
                Feature feature = feature(each.getValue(),
                    source.file.tensors.get(tensor.replace(FEATURES, SCALES)),
                    layers.get(name), about.get("level").equals("small"));
                fits = feature != null;
                features.put(name, feature);
            }
        }
        if (!fits) {
            throw new LorararException(source.file.file + ": its metadata '" + KEY
                + "' does not fit its tensors; run lorarar prepare again");
        }
        return new Prepared(about, features);
    }

    private static Feature feature(
            Safetensors.Entry values, Safetensors.Entry scales, Layer layer, boolean isSmall) {
        if (layer == null || !isMatrix(values, isSmall ? layer.rank() : layer.in())
                || scales != null && !(isMatrix(scales, 1) && scales.shape[0] == values.shape[0])) {
            return null;
        }
        return new Feature(Factor.of(values, values.shape[0], values.dtype),
            scales == null ? null : Factor.of(scales, scales.shape[0], scales.dtype));
    }

    private static boolean isMatrix(Safetensors.Entry tensor, int columns) {
        return tensor.shape.length == 2 && tensor.shape[1] == columns && tensor.shape[0] > 0
            && tensor.size() <= Integer.MAX_VALUE / 8
            && (tensor.dtype.isFloat() || tensor.dtype == Dtype.I8);
    }
}
