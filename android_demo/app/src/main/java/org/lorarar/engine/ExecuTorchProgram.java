package org.lorarar.engine;

import java.io.File;
import org.lorarar.core.LorararException;
import org.lorarar.core.Program;
import org.lorarar.core.Tensor;
import org.pytorch.executorch.DType;
import org.pytorch.executorch.EValue;
import org.pytorch.executorch.Module;

/** An open .pte file. */
final class ExecuTorchProgram implements Program {
    private final File file;
    private final Module module;

    ExecuTorchProgram(File file, Module module) {
        this.file = file;
        this.module = module;
    }

    @Override
    public Tensor[] run(String method, Tensor... inputs) throws LorararException {
        EValue[] given = new EValue[inputs.length];
        for (int i = 0; i < inputs.length; i++) {
            given[i] = EValue.from(toEngine(inputs[i]));
        }
        EValue[] outputs = execute(method, given);
        Tensor[] results = new Tensor[outputs.length];
        for (int i = 0; i < outputs.length; i++) {
            results[i] = copied(outputs[i].toTensor());
        }
        return results;
    }

    @Override
    public String text(String method) throws LorararException {
        return execute(method, new EValue[0])[0].toStr();
    }

    @Override
    public void close() {
        module.destroy();
    }

    private EValue[] execute(String method, EValue[] given) throws LorararException {
        EValue[] outputs;
        try {
            outputs = module.execute(method, given);
        } catch (RuntimeException error) {
            throw new LorararException(
                    file + ": cannot be run (" + ExecuTorch.oneLine(error) + ")", error);
        }
        if (outputs.length == 0) { // all that a closed module says
            throw new LorararException(file + ": cannot be run ('" + method + "' gives nothing)");
        }
        return outputs;
    }

    private static org.pytorch.executorch.Tensor toEngine(Tensor tensor) {
        return tensor.floats != null
                ? org.pytorch.executorch.Tensor.fromBlob(tensor.floats, tensor.shape)
                : org.pytorch.executorch.Tensor.fromBlob(tensor.longs, tensor.shape);
    }

    /** Outputs live in the module's memory until its next run. */
    private static Tensor copied(org.pytorch.executorch.Tensor output) {
        return output.dtype() == DType.INT64
                ? Tensor.of(output.getDataAsLongArray(), output.shape())
                : Tensor.of(output.getDataAsFloatArray(), output.shape());
    }
}
