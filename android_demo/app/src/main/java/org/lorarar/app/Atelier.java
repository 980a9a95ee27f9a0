package org.lorarar.app;

import android.content.Context;
import java.io.File;
import org.lorarar.core.AtomicFile;
import org.lorarar.core.Choices;
import org.lorarar.core.LayerNames;
import org.lorarar.core.LoraShelf;
import org.lorarar.core.LorararException;
import org.lorarar.core.MergeTime;

/** Where the model is opened and LoRAs are merged into it, on the worker's thread. */
final class Atelier {
    private final Context context;
    private final Studio studio;
    private final Worker worker;
    private final Shelves shelves;
    private final Easel easel;
    private final File openingMark; // there while a model opens: it tells of one that killed us
    private volatile MergeTime merged;
    private volatile boolean isReady;
    private LayerNames names; // null until prepared
    private OpenModel model; // null if none is open
    private boolean isReopening; // once the picture is finished

    Atelier(Context context, Studio studio, Worker worker, Shelves shelves, Easel easel) {
        this.context = context;
        this.studio = studio;
        this.worker = worker;
        this.shelves = shelves;
        this.easel = easel;
        openingMark = new File(context.getFilesDir(), "opening");
    }

    /** Whether a model is open, and none is about to be. */
    boolean isReady() {
        return isReady;
    }

    /** How long the pair's last merge took, or null if no pair draws. */
    MergeTime merged() {
        return merged;
    }

    /** The spellings of layers, or null if preparing failed, which is on the screen. */
    LayerNames names() {
        return names;
    }

    /** Unpack what came in the app, then open the model and go on with a picture left behind. */
    void start() {
        worker.post(R.string.preparing, new Worker.Work() {
            @Override
            public void run() throws LorararException {
                prepare();
            }
        });
        postOpening(false);
    }

    private void prepare() throws LorararException {
        easel.look();
        worker.changed();
        for (String each : new String[] {"", "pictures", "imported"}) {
            AtomicFile.clean(new File(context.getFilesDir(), each));
        }
        File pushed = Models.pushed(context);
        if (pushed != null) {
            AtomicFile.clean(pushed);
        }
        if (!Embedded.isCopied(context)) {
            Embedded.copy(context);
        }
        names = LayerNames.parse(Embedded.text(context, "names.json"));
        shelves.read();
        studio.chooseFirst();
    }

    /** Open the model that is chosen when its turn comes. */
    void postOpening(final boolean checkHashes) {
        isReady = false; // nothing begins in the model before
        int words = checkHashes ? R.string.checking : R.string.opening;
        worker.post(words, new Worker.Work() {
            @Override
            public void run() throws LorararException {
                if (easel.isDrawing()) {
                    isReopening = true;
                } else {
                    openModel(checkHashes);
                }
            }
        });
    }

    private void openModel(boolean checkHashes) throws LorararException {
        isReady = false;
        merged = null;
        if (model != null) {
            model.pipeline.close();
            model = null;
        }
        if (names == null) {
            return; // preparing failed, which is on the screen
        }
        requireRuntime();
        if (openingMark.exists() && studio.choices().model != null) {
            studio.forgetModel();
            worker.say(context.getString(R.string.model_ended));
        }
        AtomicFile.write(openingMark, new byte[0]);
        File folder = studio.modelInUse();
        try {
            model = OpenModel.open(folder, checkHashes);
        } finally {
            openingMark.delete();
            if (model == null) {
                leave(folder);
            }
        }
        postMerge();
        try {
            easel.resume(model); // before another can be asked for
        } finally {
            isReady = true;
        }
    }

    /** A refused model stays not chosen: the next start, that checks no hashes, would open it. */
    private void leave(File refused) {
        if (studio.choices().model != null && studio.modelInUse().equals(refused)) {
            studio.forgetModel();
            postOpening(false);
        }
    }

    private void requireRuntime() throws LorararException {
        try {
            Class.forName("org.pytorch.executorch.Module", false, getClass().getClassLoader());
        } catch (ClassNotFoundException error) {
            throw new LorararException(context.getString(R.string.no_runtime), error);
        }
    }

    /** Merge what is chosen when its turn comes. */
    void postMerge() {
        worker.post(0, new Worker.Work() {
            @Override
            public void run() throws LorararException {
                merge();
            }
        });
    }

    private void merge() throws LorararException {
        merged = null;
        if (modelWith(studio.choices()) != null) {
            merged = model.time();
        }
    }

    /** The model with these LoRAs merged into it, or null if none is open. */
    OpenModel modelWith(Choices asked) throws LorararException {
        if (model != null) {
            model.merge(asked, loraFile(asked.content), loraFile(asked.style), names);
        }
        return model;
    }

    private File loraFile(String id) throws LorararException {
        LoraShelf.Item item = shelves.item(id);
        if (id != null && item == null) {
            throw new LorararException(context.getString(R.string.lora_gone));
        }
        return item == null ? null : item.file;
    }

    /** After a picture: the model and the LoRAs of now. */
    void drawn() {
        if (isReopening) {
            isReopening = false;
            postOpening(true);
        } else {
            postMerge();
        }
    }

    /** Merge again, as files or the pipeline have changed. */
    void forget() {
        if (model != null) {
            model.forget();
            postMerge();
        }
    }
}
