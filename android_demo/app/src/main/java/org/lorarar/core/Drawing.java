package org.lorarar.core;

import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.DataInputStream;
import java.io.DataOutputStream;
import java.io.IOException;
import java.nio.charset.StandardCharsets;

/** A picture that is being drawn, step by step; to cancel, stop calling step. */
public final class Drawing {
    private static final int FORMAT = 0x6c72_6401; // of what save gives: "lrd", version 1
    private static final int LONGEST_KEY = 1 << 20;

    private final Trajectory way;
    private final Trajectory.Model model;
    private final String key;

    Drawing(Trajectory way, Trajectory.Model model, String key) {
        this.way = way;
        this.model = model;
        this.key = key;
    }

    public int done() {
        return way.done;
    }

    public int steps() {
        return way.steps;
    }

    /**
     * Take the next step; false when all were taken before.
     *
     * @throws LorararException if the engine fails
     */
    public boolean step() throws LorararException {
        if (way.done == way.steps) {
            return false;
        }
        way.step(model);
        return true;
    }

    /** (channels, side, side), for Pipeline.decode; not to be written to. */
    public float[] latents() {
        return way.x;
    }

    /** The state between two steps, from which resume goes on in another process. */
    public byte[] save() {
        ByteArrayOutputStream bytes = new ByteArrayOutputStream();
        try (DataOutputStream out = new DataOutputStream(bytes)) {
            out.writeInt(FORMAT);
            byte[] text = key.getBytes(StandardCharsets.UTF_8);
            out.writeInt(text.length);
            out.write(text);
            out.writeInt(way.done);
            write(way.x, out);
            out.writeBoolean(way.before != null);
            if (way.before != null) {
                write(way.before, out);
            }
        } catch (IOException error) {
            throw new IllegalStateException(error); // memory does not fail so
        }
        return bytes.toByteArray();
    }

    /**
     * Go on from what save gave. The noise is drawn again from the seed.
     *
     * @throws LorararException if the state is damaged, or of another request, other LoRAs or
     *     another model than those of now
     */
    public static Drawing resume(Pipeline pipeline, Request request, byte[] state)
            throws LorararException {
        Drawing drawing = pipeline.start(request);
        drawing.restore(state);
        return drawing;
    }

    /** Set a fresh drawing to a saved state. */
    void restore(byte[] state) throws LorararException {
        try (DataInputStream in = new DataInputStream(new ByteArrayInputStream(state))) {
            restore(in);
        } catch (LorararException error) {
            throw error;
        } catch (IOException error) {
            throw new LorararException("the saved drawing is damaged; draw it again", error);
        }
    }

    private void restore(DataInputStream in) throws IOException {
        int format = in.readInt();
        int length = in.readInt();
        if (format != FORMAT || length < 0 || length > LONGEST_KEY) {
            throw new IOException("no saved drawing");
        }
        byte[] text = new byte[length];
        in.readFully(text);
        if (!new String(text, StandardCharsets.UTF_8).equals(key)) {
            throw new LorararException("the saved drawing is of another request, other LoRAs or "
                + "another model; draw it again");
        }
        int done = in.readInt();
        float[] x = read(in, way.x.length);
        float[] before = in.readBoolean() ? read(in, way.x.length) : null;
        if (done < 0 || done > way.steps || in.read() >= 0) {
            throw new IOException("no saved drawing");
        }
        way.goOn(x, before, done);
    }

    private static void write(float[] values, DataOutputStream out) throws IOException {
        for (float value : values) {
            out.writeFloat(value);
        }
    }

    private static float[] read(DataInputStream in, int count) throws IOException {
        float[] values = new float[count];
        for (int i = 0; i < count; i++) {
            values[i] = in.readFloat();
        }
        return values;
    }
}
