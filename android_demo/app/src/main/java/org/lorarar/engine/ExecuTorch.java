package org.lorarar.engine;

import java.io.File;
import org.lorarar.core.Engine;
import org.lorarar.core.LorararException;
import org.lorarar.core.Program;
import org.pytorch.executorch.Module;

/** ExecuTorch's own runtime for Android. */
public final class ExecuTorch implements Engine {
    private final int threads;

    /** Run programs on as many threads. */
    public ExecuTorch(int threads) {
        this.threads = threads;
    }

    @Override
    public Program open(File file) throws LorararException {
        Seal.check(file);
        try {
            Module module = Module.load(file.getPath(), Module.LOAD_MODE_MMAP, threads);
            return new ExecuTorchProgram(file, module);
        } catch (RuntimeException | UnsatisfiedLinkError error) {
            throw new LorararException(
                    file + ": not a usable .pte, or too large for the memory here ("
                            + oneLine(error) + "); export it again, or in fewer bits",
                    error);
        }
    }

    static String oneLine(Throwable error) {
        return String.valueOf(error.getMessage()).trim().replaceAll("\\s+", " ");
    }
}
