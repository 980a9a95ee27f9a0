package org.lorarar.engine;

import java.io.File;
import org.lorarar.core.Engine;
import org.lorarar.core.LorararException;
import org.lorarar.core.Program;

/** Stands in for the engine in an app that was built without a native runtime. */
public final class ExecuTorch implements Engine {
    /** threads: as of the engine that it stands in for. */
    public ExecuTorch(int threads) {}

    @Override
    public Program open(File file) throws LorararException {
        throw new LorararException(
                "this app was built without ExecuTorch, so it cannot draw or merge; "
                        + "build it with: python android_demo/build.py");
    }
}
