package org.lorarar.app;

import android.net.Uri;
import android.os.Bundle;
import android.text.format.Formatter;
import android.view.View;
import android.view.ViewGroup;
import android.widget.Button;
import android.widget.TextView;
import java.io.File;
import java.util.List;

/** The models that can draw; an exported folder is pushed by adb or opened as a zip. */
public final class ModelsScreen extends Screen {
    private static final int OPEN_ZIP = 1;

    private List<ModelEntry> shown;
    private File used;

    @Override
    int layout() {
        return R.layout.models;
    }

    @Override
    protected void onCreate(Bundle saved) {
        super.onCreate(saved);
        File pushed = Models.pushed(this);
        setText(R.id.hint, pushed == null ? null : getString(R.string.models_hint, pushed));
        listen(R.id.add_zip);
    }

    @Override
    void pressed(int button) {
        askToOpen(OPEN_ZIP);
    }

    @Override
    protected void onStart() {
        super.onStart();
        studio.refreshModels();
    }

    @Override
    void chosen(int request, Uri document) {
        studio.importZip(document, Documents.name(this, document));
    }

    @Override
    public void changed() {
        super.changed();
        List<ModelEntry> models = studio.models();
        File inUse = studio.modelInUse();
        if (models == shown && inUse.equals(used)) {
            return;
        }
        shown = models;
        used = inUse;
        ViewGroup list = findView(R.id.models);
        list.removeAllViews();
        for (ModelEntry each : models) {
            list.addView(row(each, list));
        }
    }

    private View row(final ModelEntry model, ViewGroup list) {
        View row = getLayoutInflater().inflate(R.layout.model, list, false);
        String name = model.embedded ? getString(R.string.embedded) : model.folder.getName();
        ((TextView) row.findViewById(R.id.name)).setText(name);
        ((TextView) row.findViewById(R.id.facts)).setText(facts(model));
        Button choose = (Button) row.findViewById(R.id.choose);
        boolean inUse = model.folder.equals(used);
        choose.setText(inUse ? R.string.chosen : R.string.choose);
        choose.setEnabled(!inUse && model.manifest != null);
        choose.setContentDescription(
                inUse ? getString(R.string.chosen) : getString(R.string.choose_name, name));
        choose.setOnClickListener(new View.OnClickListener() {
            @Override
            public void onClick(View view) {
                studio.useModel(model.folder);
            }
        });
        return row;
    }

    private String facts(ModelEntry model) {
        if (model.manifest == null) {
            return model.refusal;
        }
        return getString(
                R.string.model_facts, model.manifest.base, model.manifest.engine,
                model.manifest.quantize, Formatter.formatFileSize(this, model.size()));
    }
}
