package org.lorarar.core;

import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.DataInputStream;
import java.io.DataOutputStream;
import java.io.File;
import java.io.IOException;

/** A picture between two steps, as it is kept for a process that ends before it is finished. */
public final class Job {
    /** So often a drawing is taken up again without a step forward; then it is given up. */
    public static final int MOST_ATTEMPTS = 2;

    private static final String FORMAT = "lorarar.job.1";
    private static final long MOST_BYTES = 256L << 20;

    public final Choices choices;
    /** The identity of the model that draws it. */
    public final String model;
    public final int attempts;
    /** Of {@link Drawing#save}; empty before the first step. */
    public final byte[] state;

    public Job(Choices choices, String model, int attempts, byte[] state) {
        this.choices = choices;
        this.model = model;
        this.attempts = attempts;
        this.state = state;
    }

    /** Keep it in a file, in place of the one before. */
    public void write(File file) throws LorararException {
        ByteArrayOutputStream bytes = new ByteArrayOutputStream();
        DataOutputStream out = new DataOutputStream(bytes);
        try {
            out.writeUTF(FORMAT);
            out.writeUTF(model);
            out.writeInt(attempts);
            writeBytes(out, choices.json());
            writeBytes(out, state);
        } catch (IOException error) {
            throw new LorararException(file.getName() + ": cannot be kept", error);
        }
        AtomicFile.write(file, bytes.toByteArray());
    }

    /** @throws LorararException if the file is damaged or of a newer format */
    public static Job read(File file) throws LorararException {
        byte[] bytes = AtomicFile.read(file, MOST_BYTES);
        DataInputStream in = new DataInputStream(new ByteArrayInputStream(bytes));
        try {
            if (!FORMAT.equals(in.readUTF())) {
                throw new IOException("not " + FORMAT);
            }
            String model = in.readUTF();
            int attempts = in.readInt();
            Job job = new Job(Choices.read(readBytes(in)), model, attempts, readBytes(in));
            if (in.read() >= 0) {
                throw new IOException("too long");
            }
            return job;
        } catch (IOException error) {
            throw new LorararException(
                    file.getName() + ": is damaged (" + error.getMessage() + ")", error);
        }
    }

    private static void writeBytes(DataOutputStream out, byte[] bytes) throws IOException {
        out.writeInt(bytes.length);
        out.write(bytes);
    }

    private static byte[] readBytes(DataInputStream in) throws IOException {
        int count = in.readInt();
        if (count < 0 || count > in.available()) {
            throw new IOException("cut short");
        }
        byte[] bytes = new byte[count];
        in.readFully(bytes);
        return bytes;
    }
}
