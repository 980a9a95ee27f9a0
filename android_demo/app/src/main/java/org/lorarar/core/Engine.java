package org.lorarar.core;

import java.io.File;

/** What runs programs; the one implementation on a phone is org.lorarar.engine.ExecuTorch. */
public interface Engine {
    /**
     * Open a program, mapped.
     *
     * @throws LorararException if it is damaged, or too large for the memory
     */
    Program open(File file) throws LorararException;
}
