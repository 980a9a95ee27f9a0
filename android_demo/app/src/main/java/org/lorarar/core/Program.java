package org.lorarar.core;

/** An open program; not to be shared by threads. */
public interface Program extends AutoCloseable {
    /**
     * Run a method, "forward" where there is but one.
     *
     * @throws LorararException if it cannot take these inputs
     */
    Tensor[] run(String method, Tensor... inputs) throws LorararException;

    /** Run a method without inputs that gives a string. */
    String text(String method) throws LorararException;

    @Override
    void close();
}
