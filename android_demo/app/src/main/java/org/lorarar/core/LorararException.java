package org.lorarar.core;

import java.io.IOException;

/** What went wrong in one line for the person who reads it: the file, the tensor, the remedy. */
public final class LorararException extends IOException {
    private static final long serialVersionUID = 1;

    public LorararException(String message) {
        super(Printable.of(message));
    }

    public LorararException(String message, Throwable cause) {
        super(Printable.of(message), cause);
    }
}
