package org.lorarar.core;

import java.io.File;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/** The programs of an exported pipeline, open: each part is run stage by stage. */
final class Parts implements AutoCloseable {
    private static final String NEEDLESS = "vae_encoder"; // for drawing

    private final File folder;
    private final PipelineManifest manifest;
    private final Map<Stage, Program> programs = new LinkedHashMap<>();

    /** @throws LorararException if a file is damaged or too large for the memory */
    Parts(File folder, PipelineManifest manifest, Engine engine) throws LorararException {
        this.folder = folder;
        this.manifest = manifest;
        boolean isOpen = false;
        try {
            for (Map.Entry<String, List<Stage>> part : manifest.parts.entrySet()) {
                for (Stage stage : part.getValue()) {
                    if (!part.getKey().equals(NEEDLESS)) {
                        programs.put(stage, engine.open(new File(folder, stage.file)));
                    }
                }
            }
            isOpen = true;
        } finally {
            if (!isOpen) {
                close();
            }
        }
    }

    /** Run a part; slots, of LoRAs, may be null where no stage has any. */
    Map<String, Tensor> run(String part, Map<String, Tensor> given, Slots slots)
            throws LorararException {
        Map<String, Tensor> tensors = new HashMap<>(given);
        for (Stage stage : manifest.stages(part)) {
            List<Tensor> inputs = new ArrayList<>();
            for (String name : stage.inputs.keySet()) {
                Tensor input = tensors.get(name);
                if (input == null) {
                    throw unfit(stage, "nothing gives its input '" + name + "'");
                }
                inputs.add(input);
            }
            if (!stage.projections.isEmpty()) {
                for (Tensor factor : slots.of(stage)) {
                    inputs.add(factor);
                }
            }
            Tensor[] outputs = programs.get(stage).run("forward", inputs.toArray(new Tensor[0]));
            if (outputs.length != stage.outputs.size()) {
                throw unfit(stage, "it gives " + outputs.length + " outputs");
            }
            for (int i = 0; i < outputs.length; i++) {
                tensors.put(stage.outputs.get(i), outputs[i]);
            }
        }
        return tensors;
    }

    private LorararException unfit(Stage stage, String why) {
        return new LorararException(new File(folder, stage.file) + ": does not fit "
            + PipelineManifest.NAME + " (" + why + "); export the model again");
    }

    @Override
    public void close() {
        for (Program program : programs.values()) {
            program.close();
        }
        programs.clear();
    }
}
