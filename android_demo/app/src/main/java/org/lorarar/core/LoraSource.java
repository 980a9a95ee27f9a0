package org.lorarar.core;

import java.io.File;
import java.io.IOException;
import java.io.RandomAccessFile;
import java.nio.charset.StandardCharsets;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.Map;

/**
 * Where a LoRA's tensors come from: one .safetensors file, and what is said of their scales.
 *
 * <p>The twin of lorarar/formats/source.py, without folders and adapters of ONNX Runtime.
 */
final class LoraSource {
    private static final String ADAPTER = "adapter_model.safetensors";
    private static final String CONFIG = "adapter_config.json";
    private static final String SAID = "lora_adapter_metadata"; // by diffusers
    private static final int MOST_ALPHAS = 65_536; // copies of one alpha in a tensor

    final Safetensors file;
    /** PEFT's, by the component that they are about, "" where they are about all. */
    private final Map<String, PeftConfig> configs = new HashMap<>();

    private LoraSource(Safetensors file) {
        this.file = file;
    }

    /**
     * Open a LoRA file.
     *
     * @throws LorararException for what is missing, damaged, a pickle or no single file
     */
    static LoraSource open(File path) throws LorararException {
        if (path.getName().endsWith(".onnx_adapter")) {
            throw new LorararException(path + ": is an adapter of ONNX Runtime, which needs ONNX "
                + "Runtime; name the .safetensors file it was exported from");
        }
        LoraSource source = new LoraSource(Safetensors.open(path));
        File config = new File(path.getAbsoluteFile().getParentFile(), CONFIG);
        if (path.getName().equals(ADAPTER) && config.exists()) {
            source.configs.put("", read(new File(path.getParentFile(), CONFIG)));
            return source;
        }
        Map<String, Map<String, Object>> options = new LinkedHashMap<>();
        for (Map.Entry<String, Object> each : source.jsonObject(SAID).entrySet()) {
            int dot = each.getKey().indexOf('.'); // diffusers: 'unet.lora_alpha'
            String component = dot < 0 ? each.getKey() : each.getKey().substring(0, dot);
            if (!options.containsKey(component)) {
                options.put(component, new LinkedHashMap<String, Object>());
            }
            String option = dot < 0 ? "" : each.getKey().substring(dot + 1);
            options.get(component).put(option, each.getValue());
        }
        for (Map.Entry<String, Map<String, Object>> given : options.entrySet()) {
            String about = path + ": its metadata '" + SAID + "'";
            source.configs.put(given.getKey(), PeftConfig.read(given.getValue(), about));
        }
        return source;
    }

    private static PeftConfig read(File config) throws LorararException {
        Object options;
        try (RandomAccessFile opened = new RandomAccessFile(config, "r")) {
            byte[] text = new byte[(int) Math.min(opened.length(), 1 << 24)];
            opened.readFully(text);
            options = Json.parse(new String(text, StandardCharsets.UTF_8));
        } catch (IOException | IllegalArgumentException error) {
            throw new LorararException(config + ": cannot be read (" + error.getMessage()
                + "); get the adapter again", error);
        }
        return PeftConfig.read(options, config.toString());
    }

    /** What the file's metadata says in JSON, empty if nothing; damaged unless an object. */
    Map<String, Object> jsonObject(String key) throws LorararException {
        String said = file.metadata.get(key);
        try {
            return said == null ? new LinkedHashMap<String, Object>() : Json.object(said);
        } catch (IllegalArgumentException error) {
            throw new LorararException(
                file.file + ": its metadata '" + key + "' is damaged; get the file again", error);
        }
    }

    void refuseDora(String remedy) throws LorararException {
        for (PeftConfig config : configs.values()) {
            if (config.isDora) {
                throw new LorararException(file.file + ": this is a DoRA; " + remedy);
            }
        }
    }

    /** alpha / rank, from the layer's own alpha or from PEFT's configuration, 1 without either. */
    double scale(String layer, Map<String, Safetensors.Entry> parts) throws LorararException {
        int rank = (int) parts.get("down").shape[0];
        if (parts.containsKey("alpha")) {
            return number(parts.get("alpha"), layer) / rank;
        }
        int dot = layer.indexOf('.');
        PeftConfig config = configs.get(layer.substring(0, dot));
        config = config != null ? config : configs.get("");
        return config == null ? 1 : config.scale(layer.substring(dot + 1), rank);
    }

    private double number(Safetensors.Entry alpha, String layer) throws LorararException {
        int size = alpha.size() <= MOST_ALPHAS ? (int) alpha.size() : 0;
        double value = Double.NaN;
        for (int i = 0; i < size; i++) {
            double each = alpha.dtype.at(alpha.bytes(), i);
            value = i == 0 || each == value ? each : Double.NaN;
        }
        if (alpha.dtype == Dtype.BOOL || Double.isNaN(value) || Double.isInfinite(value)) {
            throw new LorararException(file.file + ": layer '" + layer + "' has an alpha that is "
                + "no single finite number; write the right one into the file");
        }
        return value;
    }
}
